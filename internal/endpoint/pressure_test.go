package endpoint

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// silent opens connections that say nothing.
func (w *world) silent(t testing.TB, n int) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", w.general)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
	}
}

// dial opens a TLS connection of one protocol.
func (w *world) dial(t testing.TB, protocol string) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: testHost, NextProtos: []string{protocol}})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// requireServed sends requests on a connection each.
func (w *world) requireServed(t testing.TB, requests int) {
	t.Helper()
	for range requests {
		client := &http.Client{Transport: w.transport(t, "http/1.1"), Timeout: wait}
		res, err := client.Do(w.request(t, http.MethodGet, "/"))
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusOK, res.StatusCode)
		client.CloseIdleConnections()
	}
}

func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.MaxConnections = 40 })
	w.vm.listen(t, DefaultPort, http.HandlerFunc(echoBody))
	for range 5 {
		w.silent(t, 100)
		w.requireServed(t, 3)
	}
	w.lobby.mu.Lock()
	defer w.lobby.mu.Unlock()
	require.LessOrEqual(t, w.lobby.all.open, 40)
	require.LessOrEqual(t, w.lobby.all.strangers.Len(), 10)
}

func TestAClientForWhomThereIsNoRoomIsToldSo(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.MaxConnections = 4 }) // two from one address
	release := make(chan struct{})
	arrived := make(chan struct{}, 2)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release }))
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			res, err := w.client(t).Do(w.request(t, http.MethodGet, "/"))
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
		})
		<-arrived
	}
	_, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: testHost})
	require.ErrorContains(t, err, "internal error")
	close(release)
	busy.Wait()
	require.Eventually(t, func() bool {
		conn, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: testHost})
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, wait, time.Millisecond)
}

// Each of these would hold a connection for ever if it were let.
func TestSlowClientsAreCutOff(t *testing.T) {
	const limit = 100 * time.Millisecond
	for name, open := range map[string]func(t *testing.T, w *world) net.Conn{
		"nothing at all": func(t *testing.T, w *world) net.Conn {
			conn, err := net.Dial("tcp", w.general)
			require.NoError(t, err)
			return conn
		},
		"half a handshake": func(t *testing.T, w *world) net.Conn {
			conn, err := net.Dial("tcp", w.general)
			require.NoError(t, err)
			_, err = conn.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
			require.NoError(t, err)
			return conn
		},
		"headers that do not end": func(t *testing.T, w *world) net.Conn {
			conn := w.dial(t, "http/1.1")
			go func() {
				_, err := io.WriteString(conn, "GET / HTTP/1.1\r\n")
				for range time.Tick(limit / 10) {
					if err != nil { // the server has closed it
						return
					}
					_, err = io.WriteString(conn, "X: y\r\n")
				}
			}()
			return conn
		},
		"no request": func(t *testing.T, w *world) net.Conn { return w.dial(t, "http/1.1") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldWith(t, func(c *Config) { c.HeaderTimeout = limit })
			conn := open(t, w)
			defer conn.Close()
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(wait)))
			_, err := io.Copy(io.Discard, conn)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it was left open")
			require.True(t, w.vm.untouched())
		})
	}
}

func TestADribbledBodyHoldsUpItsOwnConnectionOnly(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(echoBody))
	for range 50 {
		conn := w.dial(t, "http/1.1")
		_, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nX-Aws-Proxy-Auth: %s\r\nContent-Length: 1000\r\n\r\nx", testHost, w.token)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return w.vm.open.Load() == 50 }, wait, time.Millisecond)
	w.requireServed(t, 5)
}

// framer speaks HTTP/2 by hand.
func (w *world) framer(t *testing.T) (*http2.Framer, net.Conn) {
	t.Helper()
	conn := w.dial(t, "h2")
	_, err := io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	framer := http2.NewFramer(conn, conn)
	require.NoError(t, framer.WriteSettings())
	return framer, conn
}

func requestHeaders(t *testing.T, token string) []byte {
	t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", testHost}, {":path", "/"}, {"x-aws-proxy-auth", token}, {"patient", "yes"}} {
		require.NoError(t, encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1], Sensitive: true}))
	}
	return block.Bytes()
}

func TestRapidResetsDisturbNobodyElse(t *testing.T) {
	w := newWorld(t)
	var now, most atomic.Int64
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		if r.Header.Get("Patient") != "" {
			<-r.Context().Done() // the reset
		}
	}))
	framer, conn := w.framer(t)
	headers := requestHeaders(t, w.token)
	go func() {
		for {
			if _, err := framer.ReadFrame(); err != nil {
				return
			}
		}
	}()
	var err error
	for stream := uint32(1); err == nil && stream < 10_000; stream += 2 {
		if err = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: headers, EndStream: true, EndHeaders: true}); err == nil {
			err = framer.WriteRSTStream(stream, http2.ErrCodeCancel)
		}
	}
	w.requireServed(t, 5)
	require.LessOrEqual(t, most.Load(), int64(maxStreams))
	conn.Close()
}

func TestOneConnectionHasOnlySoManyStreams(t *testing.T) {
	w := newWorld(t)
	framer, _ := w.framer(t)
	for {
		frame, err := framer.ReadFrame()
		require.NoError(t, err)
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() {
			value, ok := settings.Value(http2.SettingMaxConcurrentStreams)
			require.True(t, ok)
			require.EqualValues(t, maxStreams, value)
			return
		}
	}
}

// used is the memory of this process, in bytes: the server's and, in this test, its clients'.
func used() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func TestAnIdleConnectionTakesLittleMemory(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.MaxConnections = 4000 })
	w.vm.listen(t, DefaultPort, http.HandlerFunc(echoBody))
	for protocol, most := range map[string]uint64{"http/1.1": 100 << 10, "h2": 150 << 10} {
		t.Run(protocol, func(t *testing.T) {
			const n = 300
			before := used()
			for range n {
				client := &http.Client{Transport: w.transport(t, protocol)}
				res, err := client.Do(w.request(t, http.MethodGet, "/"))
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, res.Body)
				require.NoError(t, err)
				res.Body.Close()
			}
			each := (used() - before) / n
			t.Logf("%d KiB for each, its client's included", each>>10)
			require.Less(t, each, most)
		})
	}
}

// p99 is the 99th percentile of what requests on one connection take.
func (w *world) p99(t *testing.T) time.Duration {
	t.Helper()
	client := &http.Client{Transport: w.transport(t, "http/1.1"), Timeout: wait}
	var took []time.Duration
	for range 300 {
		began := time.Now()
		res, _ := get(t, client, w.request(t, http.MethodGet, "/"))
		require.Equal(t, http.StatusOK, res.StatusCode)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

func TestPressureDoesNotDelayTheRequestsOfOthers(t *testing.T) {
	w := startWorldWith(t, clockwork.NewRealClock(), func(c *Config) { c.MaxConnections = 1000 })
	w.vm.listen(t, DefaultPort, http.HandlerFunc(echoBody))
	alone := w.p99(t)
	w.silent(t, 1500) // more than there is room for
	for range 50 {
		_, err := io.WriteString(w.dial(t, "http/1.1"), "GET / HTTP/1.1\r\nHost: x\r\n")
		require.NoError(t, err)
	}
	pressed := w.p99(t)
	t.Logf("p99 %v alone, %v under pressure", alone, pressed)
	require.Less(t, pressed, 10*alone+100*time.Millisecond)
}
