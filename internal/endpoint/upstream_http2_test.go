package endpoint

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// listenHTTP2 serves an app in HTTP/2 with prior knowledge, and nothing else.
func (vm *fakeVM) listenHTTP2(t *testing.T, port uint16, app http.Handler) {
	server := httptest.NewUnstartedServer(app)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	vm.forward(port, server.Listener.Addr().String())
}

func forced(r *http.Request) *http.Request {
	r.Header.Set(forceH2Header, "true")
	return r
}

func TestForcedHTTP2ReachesTheAppAsHTTP2(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		var seen *http.Request
		w.vm.listenHTTP2(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			seen = r
			rw.Header().Set("Trailer", "Sum")
			_, _ = io.Copy(rw, r.Body)
			rw.Header().Set("Sum", r.Trailer.Get("Sum"))
		}))
		r := forced(w.request(t, http.MethodPost, "/a%2Fb?x=1;y=%zz"))
		r.Trailer = http.Header{"Sum": nil}
		r.Body = &trailing{Reader: strings.NewReader("hello"), atEnd: func() { r.Trailer.Set("Sum", "42") }}
		r.ContentLength = -1
		res, body := get(t, client, r)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, "hello", body)
		require.Equal(t, "42", res.Trailer.Get("Sum"))
		require.Equal(t, "HTTP/2.0", seen.Proto)
		require.Equal(t, testHost, seen.Host)
		require.Equal(t, "/a%2Fb?x=1;y=%zz", seen.RequestURI)
		require.Empty(t, seen.Header.Get(forceH2Header))
		require.NotEmpty(t, seen.Header.Get(requestIDHeader))
	})
}

func TestForcedHTTP2StreamsBothWays(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listenHTTP2(t, DefaultPort, http.HandlerFunc(upperLines))
		reader, writer := io.Pipe()
		r := forced(w.request(t, http.MethodPost, "/"))
		r.Body = reader
		res, err := client.Do(r)
		require.NoError(t, err)
		answers := bufio.NewScanner(res.Body)
		for i := range 20 {
			_, err := fmt.Fprintf(writer, "line %d\n", i)
			require.NoError(t, err)
			require.True(t, answers.Scan())
			require.Equal(t, fmt.Sprintf("LINE %d", i), answers.Text())
		}
		require.NoError(t, writer.Close())
		require.False(t, answers.Scan())
	})
}

func TestForcedHTTP2PassesHintsAndCancellation(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		ended := make(chan struct{})
		w.vm.listenHTTP2(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.WriteHeader(http.StatusEarlyHints)
			<-r.Context().Done()
			close(ended)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		r := forced(w.request(t, http.MethodGet, "/"))
		_, err := client.Do(r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			Got1xxResponse: func(int, textproto.MIMEHeader) error { cancel(); return nil },
		})))
		require.ErrorIs(t, err, context.Canceled)
		select {
		case <-ended:
		case <-time.After(wait):
			t.Fatal("the guest still works for a client that left")
		}
	})
}

func TestForcedHTTP2IsRefusedForAnAppThatHasOnlyHTTP1(t *testing.T) {
	for name, answer := range map[string]string{
		"answers in HTTP/1.1": "HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\n\r\n",
		"answers in HTTP/0.9": "<html>Bad request version",
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, w *world, client *http.Client) {
				rawApp(t, w.vm, answer)
				for range 2 {
					res, body := get(t, client, forced(w.request(t, http.MethodGet, "/")))
					requireAnswer(t, appH2Unsupported, res, body)
				}
			})
		})
	}
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		var served atomic.Int64
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.Method != "PRI" { // how net/http sees a preface
				served.Add(1)
			}
		}))
		r := forced(w.request(t, http.MethodPost, "/"))
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("hello")), 5
		res, body := get(t, client, r)
		requireAnswer(t, appH2Unsupported, res, body)
		require.Zero(t, served.Load(), "nothing of the request reached the app")
	})
}

func TestForcedHTTP2ToAPortWithoutListenerIsARefusal(t *testing.T) {
	w := newWorld(t)
	res, body := get(t, w.client(t), forced(w.request(t, http.MethodGet, "/")))
	requireAnswer(t, appConnectFailed, res, body)
	w.vm.refusesLate = true
	rawApp(t, w.vm, "")
	res, body = get(t, w.client(t), forced(w.request(t, http.MethodGet, "/")))
	requireAnswer(t, appConnectFailed, res, body)
}

func TestForcedHTTP2IsIgnoredForUpgrades(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, echoSocket(nil))
	conn, _, err := w.dialSocket(t, http.Header{authHeader: {w.token}, forceH2Header: {"true"}})
	require.NoError(t, err)
	require.NoError(t, conn.CloseNow())
}

func TestHTTP2ConnectionsAreSharedWithinAGenerationAndEndWhenIdle(t *testing.T) {
	w := newWorld(t)
	open := make(chan net.Conn, 10)
	ended := make(chan struct{}, 10)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open <- conn
		case http.StateClosed, http.StateHijacked: // HTTP/2 takes over its connections
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	acceptEach(t, w.vm, DefaultPort, func(conn net.Conn) {
		app, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			conn.Close()
			return
		}
		go func() { _, _ = io.Copy(conn, app) }()
		_, _ = io.Copy(app, conn) // until the proxy closes
		ended <- struct{}{}
		app.Close()
		conn.Close()
	})
	ask := func() {
		res, _ := get(t, w.client(t), forced(w.request(t, http.MethodGet, "/")))
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
	for range 5 {
		ask()
	}
	require.Len(t, open, 1)
	w.vm.suspend()
	w.vm.wake()
	ask()
	require.Len(t, open, 2)
	for range 2 {
		select {
		case <-ended:
		case <-time.After(wait):
			t.Fatal("an unused connection is kept")
		}
	}
}

// frameApp is an app that speaks HTTP/2 frame by frame. It is called for each connection when its
// client's preface was read, and SETTINGS were sent.
func frameApp(t *testing.T, vm *fakeVM, serve func(framer *http2.Framer)) {
	acceptEach(t, vm, DefaultPort, func(conn net.Conn) {
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(conn, conn)
		if framer.WriteSettings() == nil {
			serve(framer)
		}
	})
}

// nextRequest reads frames until a request has begun, and returns its stream.
func nextRequest(framer *http2.Framer) (stream uint32, err error) {
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return 0, err
		}
		if headers, ok := frame.(*http2.HeadersFrame); ok {
			return headers.StreamID, nil
		}
	}
}

func respond(framer *http2.Framer, stream uint32, end bool, fields ...string) error {
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(block.String()), EndHeaders: true, EndStream: end})
}

func TestRequestThatGOAWAYLeftOutGoesAgain(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		var conns atomic.Int64
		frameApp(t, w.vm, func(framer *http2.Framer) {
			first := conns.Add(1) == 1
			for {
				stream, err := nextRequest(framer)
				if err != nil {
					return
				}
				if first { // going away, and has not looked at it
					for { // but its body was sent already
						if frame, err := framer.ReadFrame(); err != nil || frame.Header().Type == http2.FrameData {
							break
						}
					}
					_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
					_, _ = framer.ReadFrame()
					return
				}
				_ = respond(framer, stream, true, ":status", "204")
			}
		})
		r := forced(w.request(t, http.MethodPost, "/"))
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("not idempotent")), 14
		res, _ := get(t, client, r)
		require.Equal(t, http.StatusNoContent, res.StatusCode)
		require.EqualValues(t, 2, conns.Load())
	})
}

func TestRequestThatGOAWAYCutOffIsNotSentTwice(t *testing.T) {
	w := newWorld(t)
	var requests atomic.Int64
	frameApp(t, w.vm, func(framer *http2.Framer) {
		if stream, err := nextRequest(framer); err == nil {
			requests.Add(1)
			_ = framer.WriteGoAway(stream, http2.ErrCodeNo, nil)
		}
	})
	res, body := get(t, w.client(t), forced(w.request(t, http.MethodPost, "/")))
	requireAnswer(t, appResponseFailed, res, body)
	require.EqualValues(t, 1, requests.Load())
}

func TestHTTP2AppThatResetsItsStreamCutsTheResponse(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		frameApp(t, w.vm, func(framer *http2.Framer) {
			stream, err := nextRequest(framer)
			if err != nil {
				return
			}
			_ = respond(framer, stream, false, ":status", "200")
			_ = framer.WriteData(stream, false, []byte("part"))
			_ = framer.WriteRSTStream(stream, http2.ErrCodeInternal)
			_, _ = nextRequest(framer)
		})
		res, err := client.Do(forced(w.request(t, http.MethodGet, "/")))
		require.NoError(t, err)
		_, err = io.ReadAll(res.Body)
		require.Error(t, err, "a part must not pass for the whole")
	})
}
