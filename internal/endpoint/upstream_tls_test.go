package endpoint

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

func TestTLSAppIsRecognisedAndRemembered(t *testing.T) {
	protocol := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(rw, r.Body)
		fmt.Fprint(rw, r.Proto)
	})
	overTLSServers(t, protocol, func(t *testing.T, w *world, app *tlsApp) {
		r := w.request(t, http.MethodPost, "/")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("one ")), 4
		res, body := get(t, w.client(t), r)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, "one HTTP/2.0", body, "ALPN decides, and the body was not lost")
		require.Equal(t, testHost, app.names[0])
		looks := app.plaintextConns()
		require.LessOrEqual(t, looks, 2, "the request, and a look")

		for range 3 {
			res, body = get(t, w.client(t), w.request(t, http.MethodGet, "/"))
			require.Equal(t, "HTTP/2.0", body)
			require.Equal(t, http.StatusOK, res.StatusCode)
		}
		w.vm.suspend()
		w.vm.wake()
		_, body = get(t, w.client(t), w.request(t, http.MethodGet, "/"))
		require.Equal(t, "HTTP/2.0", body)
		require.Equal(t, looks, app.plaintextConns(), "found out once, also over a suspend")
	})
}

func TestNothingOfAnUploadIsLostOnAnUnknownTLSApp(t *testing.T) {
	const size = 3 << 20 // bytes, much more than is kept
	sum := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		hash := sha256.New()
		n, err := io.Copy(hash, r.Body)
		fmt.Fprintf(rw, "%d %x %v", n, hash.Sum(nil), err)
	})
	overTLSServers(t, sum, func(t *testing.T, w *world, _ *tlsApp) {
		sent := sha256.New()
		r := w.request(t, http.MethodPut, "/")
		r.Body = io.NopCloser(io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent))
		r.ContentLength = size
		_, body := get(t, w.client(t), r)
		require.Equal(t, fmt.Sprintf("%d %x <nil>", size, sent.Sum(nil)), body)
	})
}

func TestAnUploadThatStallsReachesAnUnknownTLSApp(t *testing.T) {
	overTLSServers(t, http.HandlerFunc(upperLines), func(t *testing.T, w *world, _ *tlsApp) {
		reader, writer := io.Pipe()
		r := w.request(t, http.MethodPost, "/")
		r.Body = reader
		began := make(chan *http.Response, 1)
		go func() {
			defer close(began)
			res, err := w.client(t).Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			began <- res
		}()
		_, err := io.WriteString(writer, "first\n")
		require.NoError(t, err)
		res := <-began
		require.NotNil(t, res)
		lines := bufio.NewScanner(res.Body)
		require.True(t, lines.Scan())
		require.Equal(t, "FIRST", lines.Text())
		_, err = io.WriteString(writer, "second\n")
		require.NoError(t, err)
		require.True(t, lines.Scan())
		require.Equal(t, "SECOND", lines.Text())
		require.NoError(t, writer.Close())
		require.False(t, lines.Scan())
	})
}

func TestWebSocketReachesATLSApp(t *testing.T) {
	overTLSServers(t, echoSocket(nil), func(t *testing.T, w *world, _ *tlsApp) {
		for range 2 { // unknown, then known
			conn, _, err := w.dialSocket(t, nil, marker, tokenPrefix+w.token, portPrefix+"8080", "chat")
			require.NoError(t, err)
			require.Equal(t, "chat", conn.Subprotocol())
			require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("ping")))
			_, message, err := conn.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, "ping", string(message))
			require.NoError(t, conn.Close(websocket.StatusNormalClosure, "done"))
		}
	})
}

func TestManyRequestsAtOnceFindOutTogether(t *testing.T) {
	overTLSServers(t, http.HandlerFunc(echoBody), func(t *testing.T, w *world, _ *tlsApp) {
		client := w.client(t)
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				payload := strings.Repeat("x", i*1000)
				r := w.request(t, http.MethodPost, "/")
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(payload)), int64(len(payload))
				res, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				if body, err := io.ReadAll(res.Body); err != nil || string(body) != payload {
					t.Errorf("request %d: status %d, %d bytes, %v", i, res.StatusCode, len(body), err)
				}
			})
		}
		all.Wait()
	})
}

func TestAppThatSaysTooLateThatItWantsTLSIsHeardOut(t *testing.T) {
	const words = "Client sent an HTTP request to an HTTPS server.\n"
	w := startWorld(t, clockwork.NewRealClock())
	acceptEach(t, w.vm, DefaultPort, func(conn net.Conn) {
		defer conn.Close()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(words), words)
		}
	})
	r := w.request(t, http.MethodPost, "/")
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, 1<<20))), 1<<20 // more than is kept
	res, body := get(t, w.client(t), r)
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.Equal(t, words, body)
}

// TestPlaintextAppNeverSeesAClientHello: whatever a plaintext app does, or fails to do.
func TestPlaintextAppNeverSeesAClientHello(t *testing.T) {
	readRequest := func(conn net.Conn) error {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
		}
		return err
	}
	reply := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			if readRequest(conn) == nil {
				_, _ = io.WriteString(conn, text)
			}
		}
	}
	for name, app := range map[string]struct {
		serve  func(net.Conn)
		status int
	}{
		"answers":                        {reply("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), 200},
		"answers 400":                    {reply("HTTP/1.0 400 Bad Request\r\n\r\nI do not like it"), 400},
		"answers 400 in chunks":          {reply("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400},
		"crashes while it handles":       {reply(""), 502},
		"accepts and closes":             {func(net.Conn) {}, 502},
		"says something that is no HTTP": {reply("SSH-2.0-OpenSSH_9.2\r\n"), 502},
		"greets before it is spoken to":  {func(conn net.Conn) { _, _ = io.WriteString(conn, "220 mail\r\n"); _ = readRequest(conn) }, 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWorld(t, clockwork.NewRealClock())
			var mu sync.Mutex
			var begun [][]byte
			acceptEach(t, w.vm, DefaultPort, func(conn net.Conn) {
				defer conn.Close()
				var seen bytes.Buffer
				app.serve(&rewound{conn, io.TeeReader(conn, &seen)})
				mu.Lock()
				defer mu.Unlock()
				begun = append(begun, seen.Bytes())
			})
			for range 3 {
				res, _ := get(t, w.client(t), w.request(t, http.MethodPost, "/"))
				require.Equal(t, app.status, res.StatusCode)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, first := range begun {
				if len(first) > 0 {
					require.Contains(t, []string{"POST /", probeWords}, string(first[:min(len(first), 6)]))
				}
			}
		})
	}
}

func TestAppThatIsReplacedByAnotherKindIsFoundOutAgain(t *testing.T) {
	w := startWorld(t, clockwork.NewRealClock())
	says := func(word string) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, word) })
	}
	ask := func() (int, string) {
		w.vm.cutConns() // as the end of its process does
		res, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
		return res.StatusCode, body
	}
	w.vm.listen(t, DefaultPort, says("plain"))
	_, body := ask()
	require.Equal(t, "plain", body)

	startTLSApp(t, w.vm, DefaultPort, tlsServers["OpenSSL: Python, Node"], says("secure"))
	status, _ := ask()
	require.Equal(t, http.StatusBadGateway, status, "a crash looks the same, so the first request is answered as it was")
	_, body = ask()
	require.Equal(t, "secure", body)

	w.vm.listen(t, DefaultPort, says("plain again"))
	_, body = ask()
	require.Equal(t, "plain again", body)
}

func (vm *fakeVM) cutConns() {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	for _, conn := range vm.conns {
		conn.Close()
	}
	vm.conns = nil
}

func TestHandshakeThatFailsIsToldApart(t *testing.T) {
	w := startWorld(t, clockwork.NewRealClock())
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10} //nolint:gosec // what an old app does
	server.StartTLS()
	t.Cleanup(server.Close)
	w.vm.forward(DefaultPort, server.Listener.Addr().String())
	res, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
	requireAnswer(t, appTLSFailed, res, body)
}

func TestGreetingsOfApps(t *testing.T) {
	for first, want := range map[string]greeting{
		"":                                     saidNothing,
		"H":                                    saidSomething,
		"HTTP/1.1":                             saidSomething,
		"\x15\x03\x01\x00\x02\x02\x0a":         saidAlert,
		"\x15\x03\x01\x00\x02":                 saidAlert,
		"\x15\x03\x01\x00":                     saidSomething,
		"\x15\x02\x01\x00\x02":                 saidSomething,
		"\x16\x03\x01\x00\x02":                 saidSomething,
		"\x00\x00\x12\x04\x00\x00\x00\x00\x00": saidSettings,
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00": saidSettings,
		"\x00\x00\x00\x04\x01\x00\x00\x00\x00": saidSomething, // an acknowledgement
		"\x00\x00\x12\x04\x00\x00\x00\x00\x01": saidSomething,
		"\x00\x00\x12\x04\x00\x00\x00\x00":     saidSomething,
	} {
		require.Equal(t, want, greetingOf([]byte(first)), "%q", first)
	}
}

// FuzzFirstBytes: whatever an app says first, nothing but its own kind of greeting is taken for one.
func FuzzFirstBytes(f *testing.F) {
	for _, seed := range []string{"", "HTTP/1.1 200 OK\r\n\r\n", "\x15\x03\x03\x00\x02\x02\x46", "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		conn := newMeteredConn(&saying{said: said}, &fakeLease{vm: newFakeVM("x")}, clockwork.NewFakeClock())
		conn.patient.Store(true)
		for {
			if _, err := conn.Read(make([]byte, 1+len(said)/3)); err != nil {
				break
			}
		}
		switch conn.greeting() {
		case saidNothing:
			require.Empty(t, said)
		case saidAlert:
			require.Equal(t, []byte{21, 3}, said[:2])
		case saidSettings:
			require.Equal(t, byte(4), said[3])
		}
	})
}

// saying is a connection on which something is said and no more.
type saying struct {
	net.Conn
	said []byte
}

func (s *saying) Read(p []byte) (int, error) {
	if len(s.said) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.said)
	s.said = s.said[n:]
	return n, nil
}

func TestResponsesThatAskForTLS(t *testing.T) {
	for _, c := range []struct {
		response string
		want     bool
	}{
		{"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", true},
		{"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 45\r\n\r\nThe plain HTTP request was sent to HTTPS port", true},
		{"HTTP/1.1 400 Bad Request\r\nContent-Length: 45\r\n\r\nThe plain HTTP request was sent to HTTPS port", false}, // kept open: passed on by a proxy
		{"HTTP/1.0 200 OK\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", false},
		{"HTTP/1.0 400 Bad Request\r\n\r\nno such thing", false},
		{"HTTP/1.0 400 Bad Request\r\nServer: x\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", false},
	} {
		res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(c.response)), nil)
		require.NoError(t, err)
		require.Equal(t, c.want, wantsTLS(res), c.response)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(c.response, "\r\n\r\n"+string(body)), "what was looked at is put back")
	}
}
