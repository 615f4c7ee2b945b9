package endpoint

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/microvm"
)

// stuck is an app that answers a request when it is let go, and no request before the given one at all.
type stuck struct {
	arrivals chan string // bodies
	from     atomic.Int64
}

func newStuck(from int64) *stuck {
	s := &stuck{arrivals: make(chan string, 10)}
	s.from.Store(from)
	return s
}

func (s *stuck) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	first := s.from.Add(-1) >= 0
	s.arrivals <- string(body)
	if first {
		<-r.Context().Done()
		return
	}
	_, _ = io.WriteString(rw, "answered")
}

func TestARequestThatASuspendCutGoesAgainIfThatIsSafe(t *testing.T) {
	for _, c := range []struct {
		method, body string
		want         answer // status 0: it is answered
	}{
		{http.MethodGet, "", answer{}},
		{http.MethodHead, "", answer{}},
		{http.MethodOptions, "", answer{}},
		{http.MethodPut, "", answer{}},
		{http.MethodDelete, "", answer{}},
		{http.MethodPost, "", microvmInterrupted},
		{http.MethodPatch, "", microvmInterrupted},
		{"MADEUP", "", microvmInterrupted},
		{http.MethodPut, "read by the app", answer{}},
		{http.MethodPost, "read by the app", microvmInterrupted},
	} {
		t.Run(c.method+" "+c.body, func(t *testing.T) {
			overBoth(t, func(t *testing.T, w *world, client *http.Client) {
				app := newStuck(1)
				w.vm.listen(t, DefaultPort, app)
				go func() {
					<-app.arrivals
					w.vm.suspend()
					w.vm.wake()
				}()
				r := w.request(t, c.method, "/")
				if c.body != "" {
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(c.body)), int64(len(c.body))
				}
				res, body := get(t, client, r)
				if c.want.status != 0 {
					requireAnswer(t, c.want, res, body)
					require.Empty(t, app.arrivals, "sent once")
					return
				}
				require.Equal(t, http.StatusOK, res.StatusCode)
				require.Empty(t, res.Header.Get(errorHeader))
				require.Len(t, app.arrivals, 1, "sent again once")
			})
		})
	}
}

func TestARequestIsSentOnlySoOften(t *testing.T) {
	w := newWorld(t)
	app := newStuck(100)
	w.vm.listen(t, DefaultPort, app)
	go func() {
		for range maxSends {
			<-app.arrivals
			w.vm.suspend()
			w.vm.wake()
		}
	}()
	res, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
	requireAnswer(t, microvmInterrupted, res, body)
	require.Empty(t, app.arrivals)
	require.EqualValues(t, maxSends, w.vm.leases.Load())
}

func TestARequestOnWhichTheAppWasSilentForLongWakesNobody(t *testing.T) {
	w := newWorld(t)
	app := newStuck(100)
	w.vm.listen(t, DefaultPort, app)
	go func() {
		<-app.arrivals
		w.clock.Advance(maxSilence)
		w.vm.suspend()
	}()
	res, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
	requireAnswer(t, microvmInterrupted, res, body)
	require.EqualValues(t, 1, w.vm.leases.Load())
	w.vm.wake()
}

// TestARequestThatWaitsToGoAgainIsNotWaitedFor: the suspend that cut it would wait for it, and it for the wake.
func TestARequestThatWaitsToGoAgainIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	app := newStuck(1)
	w.vm.listen(t, DefaultPort, app)
	go func() {
		<-app.arrivals
		w.vm.suspend()
	}()
	done := make(chan string, 1)
	go func() {
		_, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
		done <- body
	}()
	require.Eventually(t, func() bool { return w.vm.leases.Load() == 2 && w.vm.waiting() == 1 }, wait, time.Millisecond)
	require.Zero(t, w.vm.open.Load())
	w.vm.wake()
	require.Equal(t, "answered", <-done)
}

func TestAResponseThatHasBegunIsCutAndNotRepeated(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(rw, "half of it")
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		}))
		res, err := client.Do(w.request(t, http.MethodGet, "/"))
		require.NoError(t, err)
		defer res.Body.Close()
		half := make([]byte, len("half of it"))
		_, err = io.ReadFull(res.Body, half)
		require.NoError(t, err)
		w.vm.suspend()
		w.vm.wake()
		_, err = io.ReadAll(res.Body)
		require.Error(t, err, "the client must not take it for whole")
		require.EqualValues(t, 1, w.vm.leases.Load())
	})
}

func TestACutRequestOfAVMThatHasEndedIsToldSo(t *testing.T) {
	w := newWorld(t)
	app := newStuck(100)
	w.vm.listen(t, DefaultPort, app)
	go func() {
		<-app.arrivals
		w.vm.failing(ErrGone)
		w.vm.suspend()
	}()
	res, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
	requireAnswer(t, microvmConnectFailed, res, body)
}

func TestTheVMIsToldHowEachResponseWillEnd(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/socket":
			echoSocket(nil).ServeHTTP(rw, r)
		case "/events":
			rw.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		case "/chunks":
			rw.(http.Flusher).Flush()
		case "/nothing":
			rw.WriteHeader(http.StatusNoContent)
		default:
			_, _ = fmt.Fprint(rw, "sized")
		}
	}))
	client := w.client(t)
	for _, c := range []struct {
		method, path string
		want         microvm.Response
	}{
		{http.MethodGet, "/", microvm.Sized},
		{http.MethodGet, "/nothing", microvm.Sized},
		{http.MethodHead, "/chunks", microvm.Sized},
		{http.MethodGet, "/chunks", microvm.Unsized},
		{http.MethodGet, "/events", microvm.Stream},
	} {
		w.vm.answered = nil
		get(t, client, w.request(t, c.method, c.path))
		require.Equal(t, []microvm.Response{c.want}, w.vm.answered, "%s %s", c.method, c.path)
	}
	w.vm.answered = nil
	_, _, err := w.dialSocket(t, http.Header{authHeader: {w.token}})
	require.NoError(t, err)
	require.Equal(t, []microvm.Response{microvm.Stream}, w.vm.answered)
}

func TestABodyThatWasBegunIsNotSentAgain(t *testing.T) {
	stale := fmt.Errorf("%w: %w", ErrStale, io.EOF)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "/", nil)
	require.NoError(t, err)
	body := newRequestBody(strings.NewReader("body"), nil, clockwork.NewFakeClock(), func() {})
	ex := &exchange{body: body}
	require.True(t, ex.mayGoAgain(r, stale, time.Second))
	require.False(t, ex.mayGoAgain(r, io.EOF, time.Second), "the app's own fault")
	_, err = body.sending().Read(make([]byte, 1))
	require.NoError(t, err)
	require.False(t, ex.mayGoAgain(r, stale, time.Second))
}
