package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

func decode(t *testing.T, text string, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), into), text)
}

// overHTTP2 is the VM with a client that insists on HTTP/2.
func (v *microVM) overHTTP2() *microVM {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	other := *v
	other.http = &http.Client{Timeout: httpLimit, Transport: &http.Transport{
		Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: v.host.roots, MinVersion: tls.VersionTLS12},
	}}
	return &other
}

func TestAResponseArrivesWhileItIsMade(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)

	response := v.open(http.MethodGet, "/stream", nil) // ten lines, one every half second
	defer response.Body.Close()
	var arrivals []time.Time
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		arrivals = append(arrivals, time.Now())
	}
	require.NoError(t, lines.Err())
	require.Len(t, arrivals, 10)
	require.Greater(t, arrivals[9].Sub(arrivals[0]), 2*time.Second)
}

func TestRequestAndResponseStreamAtTheSameTime(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	for name, v := range map[string]*microVM{"HTTP/1.1": v, "HTTP/2.0": v.overHTTP2()} {
		t.Run(name, func(t *testing.T) {
			v := v.in(t)
			reader, writer := io.Pipe()
			began := make(chan *http.Response, 1)
			go func() {
				defer close(began)
				began <- v.open(http.MethodPost, "/mirror", reader)
			}()
			write(t, writer, "first")
			response := <-began
			require.NotNil(t, response)
			defer response.Body.Close()
			require.Equal(t, name, response.Proto)
			require.Equal(t, "first", readN(t, response.Body, 5))
			write(t, writer, "second") // the request goes on after its response has begun
			require.Equal(t, "second", readN(t, response.Body, 6))
			require.NoError(t, writer.Close())
			rest, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Empty(t, rest)
		})
	}
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	_, err := io.WriteString(w, text)
	require.NoError(t, err)
}

func readN(t *testing.T, r io.Reader, n int) string {
	t.Helper()
	text := make([]byte, n)
	_, err := io.ReadFull(r, text)
	require.NoError(t, err)
	return string(text)
}

func TestALargeBodyComesBackAsItWent(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	sent := strings.Repeat("dormouse", 1<<18) // 2 MiB
	require.Equal(t, sent, v.ask(http.MethodPost, "/echo", sent))
	require.Equal(t, sent, v.overHTTP2().ask(http.MethodPost, "/echo", sent))
}

// socket opens a WebSocket as a browser does: token and port are names of subprotocols.
func (v *microVM) socket(ctx context.Context, subprotocols ...string) (*websocket.Conn, *http.Response, error) {
	return websocket.Dial(ctx, "wss://"+v.at+"/socket", &websocket.DialOptions{HTTPClient: v.http, Subprotocols: subprotocols})
}

func TestAWebSocketPassesAndHidesThePlatformsSubprotocols(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})
	platform := []string{"lambda-microvms", "lambda-microvms.authentication." + v.token, "lambda-microvms.port.8080"}
	for name, c := range map[string]struct {
		offered    []string
		negotiated string
		seen       string // by the app
	}{
		"no subprotocol of the app's own": {platform, "lambda-microvms", ""},
		"one of the app's own":            {append(platform[:3:3], "chat"), "chat", "chat"},
	} {
		t.Run(name, func(t *testing.T) {
			v := v.in(t)
			v.suspend() // a handshake wakes, too
			ctx, cancel := context.WithTimeout(context.Background(), httpLimit)
			defer cancel()
			connection, _, err := v.socket(ctx, c.offered...)
			require.NoError(t, err)
			defer connection.CloseNow()
			require.Equal(t, c.negotiated, connection.Subprotocol())

			_, first, err := connection.Read(ctx)
			require.NoError(t, err)
			var headers [][2]string
			decode(t, string(first), &headers)
			seen := ""
			for _, header := range headers {
				if http.CanonicalHeaderKey(header[0]) == "Sec-Websocket-Protocol" {
					seen = header[1]
				}
			}
			require.Equal(t, c.seen, seen)

			for _, message := range [][]byte{[]byte("ping"), bytes.Repeat([]byte{0, 255}, 10_000)} {
				require.NoError(t, connection.Write(ctx, websocket.MessageBinary, message))
				_, echo, err := connection.Read(ctx)
				require.NoError(t, err)
				require.Equal(t, message, echo)
			}
			require.NoError(t, connection.Close(websocket.StatusNormalClosure, "done"))
		})
	}
}

func TestAWebSocketNeedsMarkerTokenAndAnAllowedPort(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	token := "lambda-microvms.authentication." + v.mint(object{"port": 8080})
	for name, offered := range map[string][]string{
		"no marker":   {token},
		"no token":    {"lambda-microvms"},
		"other port":  {"lambda-microvms", token, "lambda-microvms.port.9000"},
		"wrong token": {"lambda-microvms", token[:len(token)-4]},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), httpLimit)
			defer cancel()
			_, response, err := v.in(t).socket(ctx, offered...)
			require.Error(t, err)
			require.Equal(t, http.StatusForbidden, response.StatusCode)
		})
	}
}
