package endpoint

import (
	"net/http"
	"time"
)

// Observed is a request after its end, for whoever counts or traces requests.
type Observed struct {
	Request   *http.Request // as it came; to be read only, and not kept
	RequestID string
	MicroVM   string // "" if it reached none
	Status    int    // 0: the client left before it was answered
	Code      string // x-aws-proxy-error of an answer of our own, "" for the app's
	Began     time.Time
	Answered  time.Time // when the head of the answer was there; zero: never
	Ended     time.Time
}

// observe begins to observe a request, where somebody wants that; the function it returns ends it.
func (ex *exchange) observe(r *http.Request) (end func()) {
	cfg := ex.handler.cfg
	if cfg.Observe == nil {
		return func() {}
	}
	ex.observed = &Observed{Request: r, RequestID: ex.requestID, Began: cfg.Clock.Now()}
	return func() {
		ex.observed.Ended = cfg.Clock.Now()
		if ex.vm != nil {
			ex.observed.MicroVM = ex.vm.ID()
		}
		cfg.Observe(*ex.observed)
	}
}

// answered notes what a request is answered with. It is not, when its client has left or the server ends.
func (ex *exchange) answered(status int, code string) {
	if ex.observed != nil && ex.observed.Request.Context().Err() == nil {
		ex.observed.Status, ex.observed.Code, ex.observed.Answered = status, code, ex.handler.cfg.Clock.Now()
	}
}
