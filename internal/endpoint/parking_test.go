package endpoint

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestManyRequestsWaitForOneWakeAndAllAreAnswered(t *testing.T) {
	const requests = 100
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(echoBody))
		w.vm.suspend()
		var answered sync.WaitGroup
		for i := range requests {
			answered.Go(func() {
				payload := strings.Repeat("x", i*100)
				r := w.request(t, http.MethodPost, "/")
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(payload)), int64(len(payload))
				res, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != http.StatusOK || string(body) != payload {
					t.Errorf("request %d: status %d, %d bytes, %v", i, res.StatusCode, len(body), err)
				}
			})
		}
		require.Eventually(t, func() bool { return w.vm.waiting() == requests }, wait, time.Millisecond)
		w.vm.wake()
		answered.Wait()
		require.EqualValues(t, 1, w.vm.wakes.Load())
	})
}

func TestParkedRequestGives502WhenItsTimeIsUp(t *testing.T) {
	w := newWorld(t)
	w.vm.suspend()
	type result struct {
		res  *http.Response
		body string
	}
	results := make(chan result, 1)
	go func() {
		res, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
		results <- result{res, body}
	}()
	require.Eventually(t, func() bool { return w.vm.waiting() == 1 }, wait, time.Millisecond)
	w.clock.Advance(DefaultParkTimeout - time.Second)
	require.Equal(t, 1, w.vm.waiting())
	w.clock.Advance(time.Second)
	got := <-results
	requireAnswer(t, microvmWaitTimeout, got.res, got.body)
}

func TestRequestThatMeetsASuspendBeforeItIsSentGoesToTheNextGeneration(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(echoBody))
	lease, err := w.vm.Lease(t.Context())
	require.NoError(t, err)
	w.vm.suspend()
	w.vm.wake()

	recorder := httptest.NewRecorder()
	h := newHandler(w.cfg)
	ex := &exchange{handler: h, writer: recorder, requestID: "id", vm: w.vm, port: DefaultPort, lease: lease}
	r := httptest.NewRequest(http.MethodPost, "https://"+testHost+"/", bytes.NewReader([]byte("not idempotent, and still safe")))
	h.proxy.ServeHTTP(recorder, r.WithContext(withExchange(r.Context(), ex)))
	ex.lease.Release()
	require.Equal(t, http.StatusOK, recorder.Code)
	require.Equal(t, "not idempotent, and still safe", recorder.Body.String())
	require.EqualValues(t, 2, ex.lease.Generation())
}

func TestNoRequestIsLostUnderTrafficAndSuspends(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, "ok")
	}))
	client := w.client(t)
	for range 50 {
		// Between requests, with a warm connection in the pool: what an idle suspend meets.
		var burst sync.WaitGroup
		for range 4 {
			burst.Go(func() {
				res, err := client.Do(w.request(t, http.MethodPost, "/"))
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				if body, err := io.ReadAll(res.Body); err != nil || string(body) != "ok" {
					t.Errorf("status %d, %q, %v", res.StatusCode, body, err)
				}
			})
		}
		burst.Wait()
		w.vm.suspend()
		w.vm.wake()
	}
}
