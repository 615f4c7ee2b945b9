// Package logship sends what microVMs and builds have written on to their log groups: from the logs on disk, with a remembered place, so that nothing is lost while a service is away or the daemon is.
package logship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const (
	// every is how often what was written is sent.
	every = time.Second
	// holdLimit is how long the beginning of a line waits for its end.
	holdLimit = 3 * time.Second
	// senders is how many logs are sent at once: one whose role has no way in keeps few others waiting.
	senders = 4
	// sendLimit bounds one try, the SDK's own retries included.
	sendLimit = 20 * time.Second
	// After a failure a log waits, twice as long each time.
	firstPause, longestPause = time.Second, time.Minute
)

// Sink takes lines for a log group.
type Sink interface {
	// Put returns when the lines are where they belong. Of one source they come in order, and again after an error.
	Put(ctx context.Context, to loggroup.Destination, lines []logfile.Line) error
}

// Records tell whose the logs are.
type Records interface {
	MicroVM(ctx context.Context, id string) (store.MicroVM, error)
	Build(ctx context.Context, id string) (store.Build, error)
	Image(ctx context.Context, id string) (store.Image, error)
	Version(ctx context.Context, imageID, version string) (store.ImageVersion, error)
}

// Config is what a Shipper needs.
type Config struct {
	Logs         *logfile.Folder        // of microVMs
	BuildLog     func(id string) string // where the log of a build is
	UnsentBuilds string                 // folder with a file for each build whose log was not sent; see image.UnsentDir
	Records      Records
	Remote       Sink // gets what has a role to send it as; nil: there is none
	Local        Sink // gets the rest
	Clock        clockwork.Clock
	Log          *slog.Logger
}

// Counts are what has become of lines since the daemon started.
type Counts struct {
	Sent     atomic.Int64 // lines
	Failures atomic.Int64 // tries to send that failed
	Lost     atomic.Int64 // bytes that were overwritten before they were sent
}

// Shipper sends logs on. It holds no lines between two sendings: the files do.
type Shipper struct {
	Counts Counts

	cfg  Config
	slot chan struct{} // of size senders
	wake chan struct{} // of size 1: there is something to send

	mu      sync.Mutex // guards all below
	sources map[string]*source
}

// source is a log of which not all was sent.
type source struct {
	id       string
	build    bool
	puts     int // pieces of a build's log that were put
	sending  bool
	again    bool // it has grown since the sending began
	due      time.Time
	pause    time.Duration // after the last failure
	heldFrom time.Time     // since when the beginning of a line waits; zero: none does
}

// New makes a Shipper, to which Grown reports.
func New(cfg Config) *Shipper {
	return &Shipper{cfg: cfg, slot: make(chan struct{}, senders), wake: make(chan struct{}, 1), sources: map[string]*source{}}
}

// Grown says that a microVM's app has written something. It does not wait.
func (s *Shipper) Grown(id string) { s.note(id, false) }

// BuildEnded says that the log of a build is complete.
func (s *Shipper) BuildEnded(id string) { s.note(id, true) }

func (s *Shipper) note(id string, build bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.sources[id]; known != nil {
		known.again = true
		return
	}
	s.sources[id] = &source{id: id, build: build}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends: first what an earlier daemon left unsent.
func (s *Shipper) Run(ctx context.Context) {
	if err := s.recall(); err != nil {
		s.cfg.Log.Error("logs that were not sent to their groups yet could not be found", "error", err)
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	for {
		if s.Waiting() == 0 {
			select {
			case <-ctx.Done():
				return
			case <-s.wake:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.cfg.Clock.After(every): // what comes meanwhile goes along
		}
		s.sendDue(ctx, &sending, s.cfg.Clock.Now())
	}
}

// Drain sends what there is by now, once; logs that wait after a failure have to go on waiting, for the next daemon.
// Nothing else may be running.
func (s *Shipper) Drain(ctx context.Context) {
	var sending sync.WaitGroup
	s.sendDue(ctx, &sending, s.cfg.Clock.Now().Add(every))
	sending.Wait()
}

// recall finds all logs there are: each remembers how much of it was sent.
func (s *Shipper) recall() error {
	ids, err := s.cfg.Logs.IDs()
	for _, id := range ids {
		s.Grown(id)
	}
	builds, buildsErr := unsentBuilds(s.cfg.UnsentBuilds)
	for _, id := range builds {
		s.BuildEnded(id)
	}
	return errors.Join(err, buildsErr)
}

// sendDue begins to send all that may be sent at a time.
func (s *Shipper) sendDue(ctx context.Context, sending *sync.WaitGroup, now time.Time) {
	for _, due := range s.takeDue(now) {
		select {
		case s.slot <- struct{}{}:
		case <-ctx.Done():
			s.done(due, false, ctx.Err())
			continue
		}
		sending.Go(func() {
			defer func() { <-s.slot }()
			held, err := s.send(ctx, due)
			s.done(due, held, err)
		})
	}
}

func (s *Shipper) takeDue(now time.Time) (due []*source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, src := range s.sources {
		if src.sending || src.due.After(now) {
			continue
		}
		src.sending, src.again = true, false
		due = append(due, src)
	}
	return due
}

// done decides whether a source is tried again, and when.
func (s *Shipper) done(src *source, held bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src.sending = false
	now := s.cfg.Clock.Now()
	switch {
	case errors.Is(err, store.ErrNotFound): // it was purged
		delete(s.sources, src.id)
	case err != nil:
		s.failed(src, err)
		src.due = now.Add(src.pause)
	case held:
		src.pause, src.due = 0, now.Add(every)
		if src.heldFrom.IsZero() {
			src.heldFrom = now
		}
	default:
		src.pause, src.due, src.heldFrom = 0, now.Add(every), time.Time{}
		if !src.again {
			delete(s.sources, src.id)
		}
	}
}

// failed counts a failure; the first of several in a row is logged.
func (s *Shipper) failed(src *source, err error) {
	s.Counts.Failures.Add(1)
	if src.pause == 0 && !errors.Is(err, context.Canceled) {
		s.cfg.Log.Warn("a log could not be sent to its group and will be tried again", "source", src.id, "error", err)
	}
	src.pause = min(max(2*src.pause, firstPause), longestPause)
}

// Waiting tells how many logs have something to send.
func (s *Shipper) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sources)
}

// send sends all there is of a source.
func (s *Shipper) send(ctx context.Context, src *source) (held bool, err error) {
	if src.build {
		return false, s.sendBuild(ctx, src)
	}
	vm, err := s.cfg.Records.MicroVM(ctx, src.id)
	if err != nil {
		return false, err
	}
	if loggroup.Disabled(vm.WireLogging) { // an earlier version has kept its log all the same
		return false, nil
	}
	return s.sendApp(ctx, src, loggroup.OfMicroVM(vm))
}

func (s *Shipper) sendApp(ctx context.Context, src *source, to loggroup.Destination) (held bool, err error) {
	place, err := openPlace(s.cfg.Logs.Path(src.id, placeName))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, place.close()) }()
	for {
		all := !src.heldFrom.IsZero() && s.cfg.Clock.Since(src.heldFrom) >= holdLimit
		part, err := s.cfg.Logs.Since(src.id, place.at, all)
		if err != nil {
			return false, err
		}
		if part.Lost > 0 {
			note := fmt.Sprintf("[%d bytes of the log were overwritten before they could be sent here]", part.Lost)
			part.Lines = append([]logfile.Line{{At: s.cfg.Clock.Now(), Stream: logfile.Note, Text: []byte(note)}}, part.Lines...)
		}
		if err := s.put(ctx, to, part.Lines); err != nil {
			return false, err
		}
		if err := place.move(part.Next); err != nil {
			return false, err
		}
		s.Counts.Lost.Add(part.Lost)
		if all {
			src.heldFrom = time.Time{}
		}
		if !part.More {
			return part.Held, nil
		}
	}
}

func (s *Shipper) put(ctx context.Context, to loggroup.Destination, lines []logfile.Line) error {
	if len(lines) == 0 {
		return nil
	}
	sink := s.cfg.Local
	if s.cfg.Remote != nil && to.RoleARN != "" {
		sink = s.cfg.Remote
	}
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	if err := sink.Put(ctx, to, lines); err != nil {
		return fmt.Errorf("send to log group %q: %w", to.Group, err)
	}
	s.Counts.Sent.Add(int64(len(lines)))
	return nil
}
