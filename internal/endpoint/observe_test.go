package endpoint

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRequestsAreObservedWhateverTheyAreAnsweredWith(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		seen := make(chan Observed, 1)
		w.http.Handler.(*handler).cfg.Observe = func(o Observed) { seen <- o }
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTeapot) }))
		for _, c := range []struct {
			change func(*http.Request)
			vm     string
			status int
			code   string
		}{
			{func(*http.Request) {}, testVM, http.StatusTeapot, ""},
			{func(r *http.Request) { r.Header.Del(authHeader) }, "", http.StatusForbidden, "AUTH_MISSING"},
			{func(r *http.Request) { r.Header.Set(portHeader, "9") }, testVM, http.StatusBadGateway, "APP_CONNECT_FAILED"},
		} {
			r := w.request(t, http.MethodGet, "/")
			c.change(r)
			res, err := client.Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			o := <-seen
			require.Equal(t, []any{c.vm, c.status, c.code}, []any{o.MicroVM, o.Status, o.Code})
			require.Equal(t, res.Header.Get(requestIDHeader), o.RequestID)
			require.False(t, o.Began.After(o.Answered) || o.Answered.After(o.Ended))
		}
	})
}

func TestRequestsWhoseClientsLeaveCountAsUnanswered(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		seen := make(chan Observed, 1)
		w.http.Handler.(*handler).cfg.Observe = func(o Observed) { seen <- o }
		app := newStuck(1)
		w.vm.listen(t, DefaultPort, app)
		ctx, leave := context.WithCancel(t.Context())
		go func() { <-app.arrivals; leave() }()
		_, err := client.Do(w.request(t, http.MethodGet, "/").WithContext(ctx)) //nolint:bodyclose // there is none
		require.ErrorIs(t, err, context.Canceled)
		o := <-seen
		require.Zero(t, o.Status, o.Code)
		require.True(t, o.Answered.IsZero())
	})
}
