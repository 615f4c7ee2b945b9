package endpoint

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

func TestAppSeesTheClientsRequestWithoutThePlatformsHeaders(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		var seen *http.Request
		w.vm.listen(t, 9000, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r }))

		r := w.request(t, http.MethodGet, "/a%2Fb//c?x=1;y=%zz&z")
		r.Header.Set(portHeader, "9000")
		r.Header.Set(forceH2Header, "false")
		r.Header.Set("X-Aws-Proxy-Future", "1")
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
		r.Header.Set("Traceparent", "00-abc-def-01")
		r.Header.Set("User-Agent", "")
		res, _ := get(t, client, r)
		require.Equal(t, http.StatusOK, res.StatusCode)

		require.Equal(t, "/a%2Fb//c?x=1;y=%zz&z", seen.RequestURI)
		require.Equal(t, testHost, seen.Host)
		require.Equal(t, res.Header.Get(requestIDHeader), seen.Header.Get(requestIDHeader))
		seen.Header.Del(requestIDHeader)
		require.Equal(t, http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Traceparent": {"00-abc-def-01"}}, seen.Header)
	})
}

func TestClientSeesTheAppsResponseAndNothingInvented(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			h := rw.Header()
			h["Content-Type"] = nil
			h["Date"] = []string{"Tue, 15 Nov 1994 08:12:31 GMT"}
			h["Set-Cookie"] = []string{"a=1", "b=2"}
			h.Set("X-Aws-Proxy-Error", "forged by the guest")
			h.Set("X-Amzn-Requestid", "forged by the guest")
			rw.WriteHeader(http.StatusTeapot)
			fmt.Fprint(rw, "<html>short and stout")
		}))
		res, body := get(t, client, w.request(t, http.MethodGet, "/"))
		require.Equal(t, http.StatusTeapot, res.StatusCode)
		require.Equal(t, "<html>short and stout", body)
		require.Regexp(t, `^[0-9a-f-]{36}$`, res.Header.Get(requestIDHeader))
		res.Header.Del(requestIDHeader)
		res.Header.Del("Content-Length")
		require.Equal(t, http.Header{"Date": {"Tue, 15 Nov 1994 08:12:31 GMT"}, "Set-Cookie": {"a=1", "b=2"}}, res.Header)
	})
}

// echoBody sends the request's body back as it comes.
func echoBody(rw http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(rw).EnableFullDuplex()
	_, _ = io.Copy(rw, r.Body)
}

// upperLines answers each line as it comes, while the request is still being sent.
func upperLines(rw http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(rw)
	_ = control.EnableFullDuplex()
	rw.WriteHeader(http.StatusOK)
	_ = control.Flush()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		fmt.Fprintln(rw, strings.ToUpper(lines.Text()))
		_ = control.Flush()
	}
}

func TestBodiesStreamBothWaysAtOnce(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(upperLines))
		reader, writer := io.Pipe()
		r := w.request(t, http.MethodPost, "/")
		r.Body = reader
		res, err := client.Do(r)
		require.NoError(t, err)
		answers := bufio.NewScanner(res.Body)
		for i := range 20 {
			_, err := fmt.Fprintf(writer, "line %d\n", i)
			require.NoError(t, err)
			require.True(t, answers.Scan(), "answer %d must come before the request ends", i)
			require.Equal(t, fmt.Sprintf("LINE %d", i), answers.Text())
		}
		require.NoError(t, writer.Close())
		require.False(t, answers.Scan())
		require.NoError(t, answers.Err())
	})
}

func TestServerSentEventsArriveOneByOne(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		next := make(chan string)
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/event-stream")
			for event := range next {
				fmt.Fprintf(rw, "data: %s\n\n", event)
				rw.(http.Flusher).Flush()
			}
		}))
		go func() { next <- "one" }()
		res, err := client.Do(w.request(t, http.MethodGet, "/"))
		require.NoError(t, err)
		lines := bufio.NewReader(res.Body)
		for _, event := range []string{"one", "two", "three"} {
			if event != "one" {
				next <- event
			}
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "data: "+event+"\n", line)
			_, err = lines.Discard(1)
			require.NoError(t, err)
		}
		close(next)
	})
}

func TestTrailersPassInBothDirections(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		sums := make(chan string, 1)
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Trailer", "Grpc-Status")
			echoBody(rw, r)
			sums <- r.Trailer.Get("Checksum")
			rw.Header().Set("Grpc-Status", "0")
			rw.Header().Set(http.TrailerPrefix+"Unannounced", "yes")
		}))
		r := w.request(t, http.MethodPost, "/")
		r.Trailer = http.Header{"Checksum": nil}
		r.Body = &trailing{Reader: strings.NewReader("hello"), atEnd: func() { r.Trailer.Set("Checksum", "42") }}
		r.ContentLength = -1
		res, body := get(t, client, r)
		require.Equal(t, "hello", body)
		require.Equal(t, "42", <-sums)
		require.Equal(t, "0", res.Trailer.Get("Grpc-Status"))
		require.Equal(t, "yes", res.Trailer.Get("Unannounced"))
	})
}

// trailing is a body at whose end the trailers become known.
type trailing struct {
	io.Reader
	atEnd func()
}

func (b *trailing) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.atEnd()
	}
	return n, err
}

func (b *trailing) Close() error { return nil }

func TestLargeBodiesPassUnharmedAndAreCounted(t *testing.T) {
	const size = 16 << 20 // bytes, more than all buffers on the way
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(echoBody))
		sent, received := sha256.New(), sha256.New()
		r := w.request(t, http.MethodPut, "/")
		r.Body = io.NopCloser(io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{}), size), sent))
		r.ContentLength = size
		res, err := client.Do(r)
		require.NoError(t, err)
		n, err := io.Copy(received, res.Body)
		require.NoError(t, err)
		require.EqualValues(t, size, n)
		require.Equal(t, sent.Sum(nil), received.Sum(nil))
		require.GreaterOrEqual(t, w.vm.touched.Load(), int64(2*size))
	})
}

func TestExpectContinueIsTheAppsToDecide(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			rw.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		echoBody(rw, r)
	}))
	tr := w.transport(t, "http/1.1")
	tr.ExpectContinueTimeout = wait
	client := &http.Client{Transport: tr}
	send := func(path string) (res *http.Response, body string, read bool) {
		r := w.request(t, http.MethodPost, path)
		r.Header.Set("Expect", "100-continue")
		source := &trailing{Reader: io.TeeReader(strings.NewReader("hello"), writerFunc(func() { read = true })), atEnd: func() {}}
		r.Body, r.ContentLength = source, 5
		res, body = get(t, client, r)
		return res, body, read
	}

	res, body, read := send("/accept")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "hello", body)
	require.True(t, read)

	res, _, read = send("/refuse")
	require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
	require.False(t, read, "the body was sent although the app refused it")
}

type writerFunc func()

func (f writerFunc) Write(p []byte) (int, error) { f(); return len(p), nil }

func TestConnectionIsNotClosedUnderTheNextRequestAfterAnEarlyResponse(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusRequestEntityTooLarge)
		}))
		for range 30 {
			r := w.request(t, http.MethodPost, "/")
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, 1<<20))), 1<<20
			res, err := client.Do(r)
			if err != nil {
				// RST_STREAM or a broken pipe while still sending is the client's to bear (spec/behaviour.md
				// 7.5); a connection that ends before anything of the request was taken is not.
				require.NotErrorIs(t, err, io.EOF)
				continue
			}
			require.NoError(t, res.Body.Close())
			require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
		}
	})
}

func TestInformationalResponsesPass(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Link", "</style.css>; rel=preload")
			rw.WriteHeader(http.StatusEarlyHints)
			rw.WriteHeader(http.StatusNoContent)
		}))
		var hint string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hint = fmt.Sprint(code, " ", h.Get("Link"))
			return nil
		}}
		r := w.request(t, http.MethodGet, "/")
		res, _ := get(t, client, r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
		require.Equal(t, http.StatusNoContent, res.StatusCode)
		require.Equal(t, "103 </style.css>; rel=preload", hint)
	})
}

func TestClientThatLeavesEndsTheRequestInTheGuest(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		arrived, ended := make(chan struct{}), make(chan struct{})
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-r.Context().Done()
			close(ended)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			cancel()
		}()
		_, err := client.Do(w.request(t, http.MethodGet, "/").WithContext(ctx))
		require.ErrorIs(t, err, context.Canceled)
		select {
		case <-ended:
		case <-time.After(wait):
			t.Fatal("the guest still works for a client that left")
		}
	})
}

func TestConnectionsToTheGuestAreReusedWithinAGeneration(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	client := w.client(t)
	for range 5 {
		res, _ := get(t, client, w.request(t, http.MethodGet, "/"))
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
	require.EqualValues(t, 1, w.vm.dials.Load())

	w.vm.suspend()
	w.vm.wake()
	res, _ := get(t, client, w.request(t, http.MethodGet, "/"))
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.EqualValues(t, 2, w.vm.dials.Load())
}

// rawApp answers every connection on a guest port with the same bytes and closes it.
func rawApp(t *testing.T, vm *fakeVM, answer string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	vm.forward(DefaultPort, listener.Addr().String())
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, answer)
			}()
		}
	}()
}

func TestAppThatDoesNotSpeakHTTPGets502(t *testing.T) {
	for name, sent := range map[string]string{
		"nothing":        "",
		"garbage":        "SSH-2.0-OpenSSH_9.2\r\n",
		"endless header": "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 2*maxResponseHeader),
	} {
		t.Run(name, func(t *testing.T) {
			w := startWorld(t, clockwork.NewRealClock()) // one that says nothing is looked at for TLS
			rawApp(t, w.vm, sent)
			res, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
			requireAnswer(t, appResponseFailed, res, body)
		})
	}
}

func TestResponseCutShortIsNotPassedOffAsWhole(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		rawApp(t, w.vm, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		res, err := client.Do(w.request(t, http.MethodGet, "/"))
		require.NoError(t, err)
		_, err = io.ReadAll(res.Body)
		require.Error(t, err)
	})
}

func TestSmugglingAndBadChunksAreStoppedAtTheDoor(t *testing.T) {
	head := "POST / HTTP/1.1\r\nHost: " + testHost + "\r\nX-aws-proxy-auth: %s\r\n"
	for _, c := range []struct{ name, rest, status string }{
		{"two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "400"},
		{"signed length", "Content-Length: +5\r\n\r\nhello", "400"},
		{"unknown coding", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
		{"two codings", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "501"},
		{"bad chunk", "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", "400"},
		{"blank in header name", "X-Foo : bar\r\nContent-Length: 0\r\n\r\n", "400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.vm.listen(t, DefaultPort, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
			}))
			conn, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: testHost})
			require.NoError(t, err)
			defer conn.Close()
			_, err = fmt.Fprintf(conn, head+c.rest, w.token)
			require.NoError(t, err)
			line, err := bufio.NewReader(conn).ReadString('\n')
			require.NoError(t, err)
			require.Contains(t, line, " "+c.status+" ")
		})
	}
}

func TestLengthAndChunksTogetherReachTheAppAsOneRequest(t *testing.T) {
	w := newWorld(t)
	paths := make(chan string, 4)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		paths <- r.URL.Path
	}))
	conn, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: testHost})
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /outer HTTP/1.1\r\nHost: %s\r\nX-aws-proxy-auth: %s\r\n"+
		"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", testHost, w.token)
	require.NoError(t, err)
	answers, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(answers), authMissing.body, "what follows is a request of its own, without a token")
	require.Equal(t, "/outer", <-paths)
	require.Empty(t, paths)
}
