package endpoint

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

const (
	// keptTurning is how much of a body is kept, in bytes, while it is not known which protocol the
	// app speaks: a TLS server ends a plaintext connection after its first five bytes.
	keptTurning = 256 << 10
	// keptRefusable is how much is kept, in bytes, for an HTTP/2 server that says it has not begun with
	// a request (GOAWAY, REFUSED_STREAM), and of an idempotent request for the case that a suspend cuts it.
	keptRefusable = 64 << 10
	// turnPause is how long a body larger than keptTurning waits, once for each port of a VM, for the
	// app to show that it does not understand.
	turnPause = 100 * time.Millisecond
)

var (
	errSendingOver  = errors.New("this sending of the request is over")
	errBodyConsumed = errors.New("part of the request body is already sent")
)

// requestBody is a client's body on its way to the guest. It can be sent again as long as all that
// was read of it is kept.
type requestBody struct {
	from      io.Reader
	trailer   http.Header // the server fills in its values when from ends
	announced []string    // keys of trailer
	clock     clockwork.Clock
	ended     atomic.Bool // all of it was read

	mu      sync.Mutex   // guards what follows
	stop    func()       // makes a Read of from fail that waits for the client; nil = the response is over
	present *bodySending // the only one that may go on; nil = none
	read    bool         // a Read of from was begun
	kept    []byte       // the beginning of the body
	keeping int          // bytes to keep at most; 0 = keep no more, what is kept is for its present reader
	pause   time.Duration
	err     error         // what follows kept, if it is not more
	flight  chan struct{} // closed when the read in the background is done; nil = there is none
	direct  bool          // a Read of from is under way in the caller
	settled chan struct{} // closed when the body will not be sent again
}

func newRequestBody(from io.Reader, trailer http.Header, clock clockwork.Clock, stop func()) *requestBody {
	b := &requestBody{from: from, trailer: trailer, clock: clock, stop: stop, settled: make(chan struct{})}
	for name := range trailer {
		b.announced = append(b.announced, name)
	}
	return b
}

// keep says how much to keep, and how long to wait before going beyond it. It is called before the
// first sending.
func (b *requestBody) keep(size int, pause time.Duration) { b.keeping, b.pause = size, pause }

// rewind tells whether the whole body can be sent once more. If so, the present sending gets nothing more
// of it: http.Transport may go on with it for a while after it has failed.
func (b *requestBody) rewind() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read && b.keeping == 0 {
		return false
	}
	b.present = nil
	return true
}

// retire is called before the handler returns: after that the server uses its response writer, on which
// stop acts, for other requests.
func (b *requestBody) retire() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop = nil
}

// settle says that the body will not be sent again from its beginning, if this sending is the present one.
func (s *bodySending) settle() {
	b := s.of
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.present == s && b.keeping > 0 {
		b.keeping = 0
		close(b.settled)
	}
}

// sending begins the only or the first sending, or one after rewind.
func (b *requestBody) sending() *bodySending {
	s := &bodySending{of: b, over: make(chan struct{})}
	if len(b.announced) > 0 {
		s.trailer = make(http.Header, len(b.announced))
		for _, name := range b.announced {
			s.trailer[name] = nil
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.present = s
	return s
}

// bodySending reads a body from its beginning, for one sending of its request. Closing it ends a Read
// that waits for the client, which itself is not closed: that is for the server to do.
type bodySending struct {
	of      *requestBody
	trailer http.Header // of its own, because the server may write to the client's at any time; complete at the end
	at      int         // in of.kept
	over    chan struct{}
	once    sync.Once
	why     error // set before over is closed
}

// again is the same body for another sending of the same http.Request.
func (s *bodySending) again() (*bodySending, error) {
	if !s.of.rewind() {
		return nil, errBodyConsumed
	}
	next := s.of.sending()
	next.trailer = s.trailer
	return next, nil
}

func (s *bodySending) Read(p []byte) (int, error) {
	b := s.of
	for {
		select {
		case <-s.over:
			return 0, s.why
		default:
		}
		b.mu.Lock()
		switch {
		case b.present != s:
			b.mu.Unlock()
			return 0, errSendingOver
		case s.at < len(b.kept):
			n := copy(p, b.kept[s.at:])
			s.at += n
			b.mu.Unlock()
			return n, nil
		case b.err != nil:
			err := b.err
			s.complete(err)
			b.mu.Unlock()
			return 0, err
		case b.keeping == 0 && b.flight == nil:
			b.kept, s.at = nil, 0 // all of it is sent
			b.read, b.direct = true, true
			b.mu.Unlock()
			return s.readDirect(p)
		case b.flight == nil && len(b.kept) >= b.keeping:
			b.mu.Unlock()
			s.awaitSettled()
			continue
		case b.flight == nil:
			b.read, b.flight = true, make(chan struct{})
			go b.readAhead(min(len(p), b.keeping))
		}
		flight := b.flight
		b.mu.Unlock()
		select {
		case <-flight:
		case <-s.over:
		}
	}
}

// readDirect passes on what comes next without keeping it.
func (s *bodySending) readDirect(p []byte) (int, error) {
	b := s.of
	n, err := b.readOn(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.direct = false
	s.complete(err)
	return n, s.reason(err)
}

// complete fills in the trailer at the end of the body. The caller holds mu.
func (s *bodySending) complete(end error) {
	if end == io.EOF {
		for name := range s.trailer {
			s.trailer[name] = s.of.trailer[name]
		}
	}
}

// reason is why a read failed: if the sending is over, the read was made to fail.
func (s *bodySending) reason(err error) error {
	select {
	case <-s.over:
		if err != nil && err != io.EOF {
			return s.why
		}
	default:
	}
	return err
}

// awaitSettled holds a body back that is about to become too long to be sent again.
func (s *bodySending) awaitSettled() {
	timer := s.of.clock.NewTimer(s.of.pause)
	defer timer.Stop()
	select {
	case <-s.over:
	case <-s.of.settled:
	case <-timer.Chan():
		s.settle()
	}
}

// Close ends the sending.
func (s *bodySending) Close() error {
	s.end(nil)
	return nil
}

// end is Close with the reason, which is what http.Transport then takes for the reason why the request
// failed. If the body cannot be sent again anyway, nobody wants more of it.
func (s *bodySending) end(why *error) {
	s.once.Do(func() {
		s.why = errSendingOver
		if why != nil {
			s.why = *why
		}
		close(s.over)
	})
	b := s.of
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.direct && b.stop != nil {
		b.stop()
	}
}

// readAhead reads once into what is kept. It goes on when the sending that wanted it is over, and
// what it gets is for the next one.
func (b *requestBody) readAhead(size int) {
	p := make([]byte, size)
	n, err := b.readOn(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, p[:n]...)
	b.err = err
	close(b.flight)
	b.flight = nil
}

func (b *requestBody) readOn(p []byte) (int, error) {
	n, err := b.from.Read(p)
	switch {
	case err == io.EOF:
		b.ended.Store(true)
	case err != nil:
		err = fmt.Errorf("%w: %w", errRequestBody, err)
	}
	return n, err
}
