package endpoint

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/internal/microvm"
)

const (
	// maxSends bounds how often one request is sent because its VM was suspended under it: idle
	// VMs are suspended a minute apart at least (spec/behaviour.md 10), others by their owners.
	maxSends = 3
	// maxSilence is how long an app may have a request and say nothing until it is treated as the
	// silent stream that must not keep its VM up, or wake it (spec/behaviour.md 10).
	maxSilence = time.Minute
)

// idempotent methods may be sent twice (RFC 9110, 9.2.2).
var idempotent = map[string]bool{
	http.MethodGet: true, http.MethodHead: true, http.MethodOptions: true, http.MethodTrace: true,
	http.MethodPut: true, http.MethodDelete: true,
}

// cut adds to an error, if there is one, that the VM was suspended or ended under the request.
func (ex *exchange) cut(err error) error {
	if err != nil && ex.lease.Stale() && !errors.Is(err, ErrStale) {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	return err
}

// mayGoAgain tells whether a request that failed with err after some time may be sent to the VM's
// next generation: nothing of its response has come, so all that counts is what the app may
// already have done with it.
func (ex *exchange) mayGoAgain(req *http.Request, err error, took time.Duration) bool {
	if !errors.Is(err, ErrStale) || req.Context().Err() != nil {
		return false
	}
	safe := errors.Is(err, errDial) || idempotent[req.Method] && took < maxSilence
	return safe && ex.body.rewind()
}

// kindOf tells how a response will end.
func kindOf(res *http.Response) microvm.Response {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols,
		strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream"):
		return microvm.Stream
	case res.ContentLength >= 0, res.Request.Method == http.MethodHead:
		return microvm.Sized
	}
	return microvm.Unsized
}
