package endpoint

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// echoSocket is an app that accepts one of its own subprotocols and sends every message back.
func echoSocket(seen chan<- http.Header) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if seen != nil {
			seen <- r.Header.Clone()
		}
		conn, err := websocket.Accept(rw, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, message, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
}

func (w *world) dialSocket(t *testing.T, header http.Header, subprotocols ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, "wss://"+testHost+"/socket", &websocket.DialOptions{
		HTTPClient:   w.client(t),
		HTTPHeader:   header,
		Subprotocols: subprotocols,
	})
	if err == nil {
		t.Cleanup(func() { conn.CloseNow() })
	}
	return conn, res, err
}

func TestWebSocketIsAuthenticatedByHeaderOrSubprotocol(t *testing.T) {
	w := newWorld(t)
	seen := make(chan http.Header, 1)
	w.vm.listen(t, 9000, echoSocket(seen))
	auth := tokenPrefix + w.token
	byHeader := http.Header{authHeader: {w.token}, portHeader: {"9000"}}
	for _, c := range []struct {
		name     string
		header   http.Header
		offered  []string
		selected string // what the client is told
		guest    string // what the guest was offered
	}{
		{"subprotocol, the app has none", nil, []string{marker, auth, portPrefix + "9000"}, marker, ""},
		{"subprotocol, the app selects its own", nil, []string{marker, auth, portPrefix + "9000", "chat"}, "chat", "chat"},
		{"subprotocol, the app declines", nil, []string{"v2", marker, auth, portPrefix + "9000"}, marker, "v2"},
		{"header", byHeader, nil, "", ""},
		{"header, and the app selects", byHeader, []string{"chat"}, "chat", "chat"},
		{"header, and the app declines", byHeader, []string{"v2"}, "", "v2"},
		{"header and marker", byHeader, []string{marker}, marker, ""},
		{"header port before subprotocol port", byHeader, []string{marker, portPrefix + "1"}, marker, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, _, err := w.dialSocket(t, c.header, c.offered...)
			require.NoError(t, err)
			require.Equal(t, c.selected, conn.Subprotocol())
			header := <-seen
			require.Equal(t, c.guest, header.Get(subprotocolHeader))
			for name := range header {
				require.False(t, strings.HasPrefix(name, headerPrefix), name)
			}
			require.NoError(t, conn.Write(t.Context(), websocket.MessageBinary, []byte("ping")))
			_, message, err := conn.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, "ping", string(message))
			require.NoError(t, conn.Close(websocket.StatusNormalClosure, "done"))
		})
	}
}

func TestRefusedWebSocketsNeverReachTheVM(t *testing.T) {
	w := newWorld(t)
	auth := tokenPrefix + w.token
	narrow := tokenPrefix + mint(t, w.tokens, testVM, PortRange{9000, 9000})
	shell := tokenPrefix + mintShell(t, w, testVM)
	for _, c := range []struct {
		name    string
		offered []string
		want    answer
	}{
		{"nothing", nil, authMissing},
		{"no marker", []string{auth}, authMissing},
		{"no token", []string{marker}, authMissing},
		{"token that is none", []string{marker, tokenPrefix + "secret"}, authMissing},
		{"truncated token", []string{marker, auth[:len(auth)-4]}, authFailed},
		{"port outside the token", []string{marker, narrow, portPrefix + "9001"}, portDenied},
		{"bad port", []string{marker, auth, portPrefix + "0"}, badRequest},
		{"two tokens", []string{marker, auth, auth}, badRequest},
		{"shell token without the marker", []string{shell}, authMissing},
		{"shell token of another microVM", []string{marker, tokenPrefix + mintShell(t, w, "microvm-other")}, authFailed},
		{"truncated shell token", []string{marker, shell[:len(shell)-4]}, authFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, res, err := w.dialSocket(t, nil, c.offered...)
			require.Error(t, err)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			requireAnswer(t, c.want, res, string(body))
			require.True(t, w.vm.untouched())
		})
	}
}

func TestOnlyWhatPassesAWebSocketCountsAsUse(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, echoSocket(nil))
	conn, _, err := w.dialSocket(t, http.Header{authHeader: {w.token}})
	require.NoError(t, err)
	talk := func(text string) {
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(text)))
		_, _, err := conn.Read(t.Context())
		require.NoError(t, err)
	}
	countedSince := func(before int64) int64 { return w.vm.touched.Load() - before }

	opened := w.vm.touched.Load()
	message := strings.Repeat("m", 20_000)
	talk(message)
	// Both directions and their framing; a write is counted when it is done, so a moment may pass.
	require.Eventually(t, func() bool { return countedSince(opened) >= int64(2*len(message)) }, wait, time.Millisecond)
	require.Less(t, countedSince(opened), int64(2*len(message)+1000))
}

func TestWebSocketEndsWhenItsVMIsSuspended(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, echoSocket(nil))
	conn, _, err := w.dialSocket(t, http.Header{authHeader: {w.token}})
	require.NoError(t, err)
	w.vm.suspend()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	_, _, err = conn.Read(ctx)
	require.Error(t, err)
	require.NoError(t, ctx.Err(), "the client must learn of it")
	w.vm.wake()
}

func TestWebSocketCompressionIsBetweenClientAndApp(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(rw, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(1 << 20)
		if kind, message, err := conn.Read(r.Context()); err == nil {
			_ = conn.Write(r.Context(), kind, message)
		}
		_, _, _ = conn.Read(r.Context())
	}))
	conn, res, err := websocket.Dial(t.Context(), "wss://"+testHost+"/", &websocket.DialOptions{
		HTTPClient: w.client(t), HTTPHeader: http.Header{authHeader: {w.token}}, CompressionMode: websocket.CompressionContextTakeover,
	})
	require.NoError(t, err)
	defer conn.CloseNow()
	require.Contains(t, res.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate")
	conn.SetReadLimit(1 << 20)
	message := strings.Repeat("compressible ", 50_000)
	before := w.vm.touched.Load()
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(message)))
	_, echo, err := conn.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, message, string(echo))
	require.Less(t, w.vm.touched.Load()-before, int64(len(message)/2), "it passes compressed")
}

func TestWebSocketWhoseAppDiesEndsForTheClient(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, echoSocket(nil))
	conn, _, err := w.dialSocket(t, http.Header{authHeader: {w.token}})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	w.vm.cutConns()
	for err == nil { // sends until it learns
		err = conn.Write(ctx, websocket.MessageBinary, make([]byte, 30_000))
	}
	require.NoError(t, ctx.Err(), "the client must learn of it")
}

// TestUpgradedConnectionCanBeHalfClosed: one side says all it has to say and still hears the other.
func TestUpgradedConnectionCanBeHalfClosed(t *testing.T) {
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	w.vm.forward(DefaultPort, listener.Addr().String())
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		reader := bufio.NewReader(conn)
		if _, err := http.ReadRequest(reader); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		said, _ := io.ReadAll(reader) // until the client's half is closed
		_, _ = fmt.Fprintf(conn, "heard %q", said)
	}()

	conn, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: testHost})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(wait)))
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nX-aws-proxy-auth: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", testHost, w.token)
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	_, err = io.WriteString(conn, "last words")
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	answer, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.Equal(t, `heard "last words"`, string(answer))
}
