package endpoint

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// What keeps a VM from being idle is Lease.Touch; spec/behaviour.md 10 says what may be behind it.

func TestEachMessageOfAStreamCountsAndItsSilenceDoesNot(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		messages := make(chan string)
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/event-stream")
			rw.(http.Flusher).Flush()
			for message := range messages {
				_, _ = io.WriteString(rw, message)
				rw.(http.Flusher).Flush()
			}
		}))
		res, err := client.Do(w.request(t, http.MethodGet, "/"))
		require.NoError(t, err)
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		before := w.vm.touched.Load()
		for range 5 {
			messages <- "data: x\n"
			require.True(t, lines.Scan())
			now := w.vm.touched.Load()
			require.Greater(t, now, before)
			before = now
			w.clock.Advance(maxSilence) // the proxy has nothing of its own to say meanwhile
			require.Equal(t, now, w.vm.touched.Load())
		}
		close(messages)
		require.False(t, lines.Scan())
	})
}

func TestMessagesOfAWebSocketCountInBothDirections(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, echoSocket(nil))
	socket, _, err := w.dialSocket(t, http.Header{authHeader: {w.token}})
	require.NoError(t, err)
	before := w.vm.touched.Load()
	message := []byte(strings.Repeat("x", 1000))
	require.NoError(t, socket.Write(t.Context(), websocket.MessageText, message))
	_, _, err = socket.Read(t.Context())
	require.NoError(t, err)
	// What was written is counted when the write returns, which may be after the echo.
	require.Eventually(t, func() bool { return w.vm.touched.Load() >= before+2000 }, 5*time.Second, time.Millisecond)
	w.clock.Advance(maxSilence)
	require.Less(t, w.vm.touched.Load(), before+3000, "each once; the end of the handshake may be counted late, too")
}

func TestWhatDoesNotReachTheGuestDoesNotCount(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		for _, change := range []func(r *http.Request){
			func(r *http.Request) { r.Header.Del(authHeader) },
			func(r *http.Request) { r.Header.Set(portHeader, "x") },
			func(r *http.Request) { r.Header.Set(authHeader, mint(t, w.tokens, testVM, PortRange{1, 1})) },
			func(*http.Request) {}, // a port on which nothing listens
		} {
			r := w.request(t, http.MethodPost, "/")
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("hello")), 5
			change(r)
			res, _ := get(t, client, r)
			require.NotEqual(t, http.StatusOK, res.StatusCode)
		}
		w.vm.failing(ErrSuspended)
		res, _ := get(t, client, w.request(t, http.MethodGet, "/"))
		require.Equal(t, http.StatusBadGateway, res.StatusCode)
		conn, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: testHost})
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		require.Zero(t, w.vm.touched.Load())
		w.vm.failing(nil)
	})
}
