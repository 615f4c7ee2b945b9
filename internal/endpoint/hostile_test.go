package endpoint

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

func listenRaw(t *testing.T, vm *fakeVM, serve func(io.ReadWriteCloser)) {
	acceptEach(t, vm, DefaultPort, func(conn net.Conn) { serve(conn) })
}

// endless writes the same again and again until nobody reads it.
func endless(t *testing.T, vm *fakeVM, begin, again string) {
	listenRaw(t, vm, func(conn io.ReadWriteCloser) {
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 16<<10))
		_, err := io.WriteString(conn, begin)
		for block := strings.Repeat(again, 1+4096/len(again)); err == nil; {
			_, err = io.WriteString(conn, block)
		}
	})
}

func TestResponsesOfAHostileGuestAreRefused(t *testing.T) {
	for name, sent := range map[string]string{
		"no status":                "HTTP/1.1\r\n\r\n",
		"status of two digits":     "HTTP/1.1 20 OK\r\n\r\n",
		"negative status":          "HTTP/1.1 -200 OK\r\n\r\n",
		"another protocol":         "HTTP/3.0.1 200 OK\r\n\r\n",
		"bad length":               "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
		"two lengths":              "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"unknown coding":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nabc",
		"field without a colon":    "HTTP/1.1 200 OK\r\nabc\r\n\r\n",
		"field without a name":     "HTTP/1.1 200 OK\r\n: abc\r\n\r\n",
		"upgrade nobody asked for": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			overBoth(t, func(t *testing.T, w *world, client *http.Client) {
				rawApp(t, w.vm, sent)
				res, body := get(t, client, w.request(t, http.MethodGet, "/"))
				requireAnswer(t, appResponseFailed, res, body)
			})
		})
	}
}

func TestEndlessResponsesOfAHostileGuestEnd(t *testing.T) {
	for name, c := range map[string]struct{ begin, again string }{
		"header field":     {"HTTP/1.1 200 OK\r\nA: ", "a"},
		"header fields":    {"HTTP/1.1 200 OK\r\n", "A: a\r\n"},
		"status line":      {"HTTP/1.1 200 ", "a"},
		"1xx responses":    {"", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"},
		"100 responses":    {"", "HTTP/1.1 100 Continue\r\n\r\n"},
		"empty lines":      {"", "\r\n"},
		"something else":   {"", "a"},
		"one 1xx response": {"HTTP/1.1 103 Early Hints\r\n", "A: a\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			overBoth(t, func(t *testing.T, w *world, client *http.Client) {
				endless(t, w.vm, c.begin, c.again)
				hints := 0
				r := w.request(t, http.MethodGet, "/")
				r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
					Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
				}))
				res, body := get(t, client, r)
				requireAnswer(t, appResponseFailed, res, body)
				require.LessOrEqual(t, hints, maxInformational)
			})
		})
	}
}

func TestEndlessFramingOfAHostileGuestCutsTheResponse(t *testing.T) {
	for name, c := range map[string]struct{ begin, again string }{
		"trailers":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: a\r\n"},
		"trailer":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", "a"},
		"chunk size":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0"},
		"chunk extension":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "a"},
		"chunk extensions": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;" + strings.Repeat("a", 3000) + "\r\nx\r\n"},
		"bad chunk":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "zz\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			overBoth(t, func(t *testing.T, w *world, client *http.Client) {
				endless(t, w.vm, c.begin, c.again)
				res, err := client.Do(w.request(t, http.MethodGet, "/"))
				if err == nil { // its headers were on their way already
					_, err = io.ReadAll(res.Body)
				}
				require.Error(t, err, "a part must not pass for the whole")
			})
		})
	}
}

// TestEarlyResponseOfAnAppThatClosesReachesTheClient: the rest of the body is refused by a reset.
func TestEarlyResponseOfAnAppThatClosesReachesTheClient(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		_, _ = get(t, client, w.request(t, http.MethodGet, "/")) // known from here on
		listenRaw(t, w.vm, func(conn io.ReadWriteCloser) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!")
			conn.Close()
		})
		w.vm.cutConns()
		for range 20 {
			r := w.request(t, http.MethodPut, "/")
			r.Body, r.ContentLength = io.NopCloser(io.LimitReader(repeating(make([]byte, copyBuffer)), 8<<20)), 8<<20
			res, body := get(t, client, r)
			require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode, res.Header.Get(errorHeader))
			require.Equal(t, "no!", body)
		}
	})
}

func TestLengthAndChunksInAResponseAreReadAsChunks(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		rawApp(t, w.vm, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
		res, body := get(t, client, w.request(t, http.MethodGet, "/"))
		require.Equal(t, "hello", body)
		require.Empty(t, res.Header.Get("Content-Length"))
	})
}

func TestWhatFollowsAResponseIsNobodysAnswer(t *testing.T) {
	w := newWorld(t)
	rawApp(t, w.vm, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
	for range 5 {
		_, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
		require.Equal(t, "ok", body)
	}
}

func TestHostileHTTP2GuestIsBounded(t *testing.T) {
	for name, serve := range map[string]func(framer *http2.Framer, stream uint32) error{
		"header list": func(framer *http2.Framer, stream uint32) error {
			return respond(framer, stream, true, ":status", "200", "a", strings.Repeat("a", 2*maxResponseHeader))
		},
		"endless 1xx": func(framer *http2.Framer, stream uint32) (err error) {
			for err == nil {
				err = respond(framer, stream, false, ":status", "103")
			}
			return err
		},
		"1xx that ends the stream": func(framer *http2.Framer, stream uint32) error {
			return respond(framer, stream, true, ":status", "103")
		},
		"no status": func(framer *http2.Framer, stream uint32) error {
			return respond(framer, stream, true, "a", "b")
		},
		"data before headers": func(framer *http2.Framer, stream uint32) error {
			return framer.WriteData(stream, true, []byte("hello"))
		},
		"push": func(framer *http2.Framer, stream uint32) error {
			return framer.WritePushPromise(http2.PushPromiseParam{StreamID: stream, PromiseID: 2, EndHeaders: true})
		},
		"frame larger than allowed": func(framer *http2.Framer, stream uint32) error {
			return framer.WriteRawFrame(http2.FrameHeaders, 0, stream, make([]byte, 2<<20))
		},
		"window that overflows": func(framer *http2.Framer, stream uint32) error {
			return framer.WriteWindowUpdate(0, 1<<31-1)
		},
		"endless continuations": func(framer *http2.Framer, stream uint32) error {
			err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x88}})
			for err == nil {
				err = framer.WriteContinuation(stream, false, bytes.Repeat([]byte{0x84}, 1000))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			frameApp(t, w.vm, func(framer *http2.Framer) {
				for {
					stream, err := nextRequest(framer)
					if err != nil || serve(framer, stream) != nil {
						return
					}
				}
			})
			res, body := get(t, w.client(t), forced(w.request(t, http.MethodGet, "/")))
			requireAnswer(t, appResponseFailed, res, body)
		})
	}
}

func TestTrailerFloodOverHTTP2CutsTheResponse(t *testing.T) {
	w := newWorld(t)
	frameApp(t, w.vm, func(framer *http2.Framer) {
		stream, err := nextRequest(framer)
		if err != nil {
			return
		}
		_ = respond(framer, stream, false, ":status", "200")
		_ = framer.WriteData(stream, false, []byte("hello"))
		_ = respond(framer, stream, true, "a", strings.Repeat("a", 2*maxResponseHeader))
		_, _ = nextRequest(framer)
	})
	res, err := w.client(t).Do(forced(w.request(t, http.MethodGet, "/")))
	require.NoError(t, err)
	_, err = io.ReadAll(res.Body)
	require.Error(t, err)
}

// heapLimit is bytes the daemon may hold while a body passes: buffers and windows, no part of it.
const heapLimit = 64 << 20

// TestLargeBodiesPassWithoutBeingHeld watches the heap while a body passes in each direction.
func TestLargeBodiesPassWithoutBeingHeld(t *testing.T) {
	const size = 2 * heapLimit
	pattern := bytes.Repeat([]byte("dormouse"), 8<<10)
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /", func(rw http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(rw, n, err)
	})
	mux.HandleFunc("GET /", func(rw http.ResponseWriter, _ *http.Request) {
		for range size / len(pattern) {
			if _, err := rw.Write(pattern); err != nil {
				return
			}
		}
	})
	for _, protocol := range []string{"http/1.1", "h2"} {
		w := startWorld(t, clockwork.NewRealClock())
		client := &http.Client{Transport: w.transport(t, protocol), Timeout: 6 * wait}
		for port, listen := range map[uint16]func(*testing.T, uint16, http.Handler){
			8001: func(t *testing.T, port uint16, app http.Handler) { w.vm.listen(t, port, app) },
			8002: w.vm.listenHTTP2,
		} {
			listen(t, port, mux)
			most := watchHeap(t)
			to := func(method string) *http.Request {
				r := w.request(t, method, "/")
				r.Header.Set(portHeader, fmt.Sprint(port))
				if port == 8002 {
					forced(r)
				}
				return r
			}
			r := to(http.MethodPut)
			r.Body = io.NopCloser(io.LimitReader(repeating(pattern), size))
			_, body := get(t, client, r)
			require.Equal(t, fmt.Sprint(size, " <nil>"), body)
			res, err := client.Do(to(http.MethodGet))
			require.NoError(t, err)
			n, err := io.Copy(io.Discard, res.Body)
			require.NoError(t, err)
			require.EqualValues(t, size, n)
			require.Less(t, most(), uint64(heapLimit))
		}
	}
}

type repeating []byte

func (p repeating) Read(into []byte) (int, error) { return copy(into, p), nil }

// watchHeap looks at the heap now and then; the function it returns tells the most that was seen.
func watchHeap(t *testing.T) func() uint64 {
	done, most := make(chan struct{}), make(chan uint64, 1)
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		var stats runtime.MemStats
		for highest := uint64(0); ; {
			select {
			case <-done:
				most <- highest
				return
			case <-ticker.C:
				runtime.ReadMemStats(&stats)
				highest = max(highest, stats.HeapAlloc)
			}
		}
	}()
	t.Cleanup(func() {
		select {
		case <-done:
		default:
			close(done)
		}
	})
	return func() uint64 { close(done); return <-most }
}
