package microvm

import (
	"context"
	"errors"
	"iter"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// What each step of a fake guest takes.
const (
	diskTime  = 3 * time.Millisecond
	vmmTime   = 40 * time.Millisecond
	loadTime  = 8 * time.Millisecond
	agentTime = 30 * time.Millisecond
	hookTime  = 20 * time.Millisecond
	pauseTime = 2 * time.Millisecond
	saveTime  = 5 * time.Millisecond
)

// answer is what a hook of the fake app does.
type answer struct {
	status  int // 0: nobody listens
	after   time.Duration
	refuses bool // the agent itself does not answer
}

// guests is a starter whose guests are fakes.
type guests struct {
	t *testing.T

	mu       sync.Mutex // guards all below
	calls    []string   // of all guests, in order
	sessions []*fakeGuest
	answers  map[string]answer // by hook; 200 at once where there is none
	loadErr  error             // before the guest runs
	runErr   error             // when it runs
	adoptErr error
	pauseErr error
	saveErr  error
	goOnErr  error
	loadHold time.Duration // what loading takes in addition, unless it is cut short
	saveHold time.Duration
	endHold  time.Duration // what the end of a VMM takes
	backlog  chan struct{} // closed when the app takes connections; nil: it does at once
	origins  []origin

	consoleSays, vmmSays string // and nobody has read yet

	execTime   time.Duration // what the start of a process takes
	hangUpTime time.Duration // what the agent takes to end a process that is hung up on

	journal journal // of every guest: there is one in the tests that look
}

// journal is what the app of a fake guest wrote, as its agent tells it. It survives suspends.
type journal struct {
	mu     sync.Mutex // guards all below
	pieces []*guest.LogEvent
	more   chan struct{}
}

func (j *journal) at(n int) (*guest.LogEvent, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.more == nil {
		j.more = make(chan struct{})
	}
	if n < len(j.pieces) {
		return j.pieces[n], nil
	}
	return nil, j.more
}

// write is the app writing to its standard output.
func (j *journal) write(text string) { j.add(&guest.LogEvent{Stream: "stdout", Data: []byte(text)}) }

func (j *journal) add(piece *guest.LogEvent) {
	piece.UnixNanos = time.Now().UnixNano()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pieces = append(j.pieces, piece)
	if j.more != nil {
		close(j.more)
		j.more = nil
	}
}

func (g *guests) note(call string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, call)
}

// said returns the calls since the last time.
func (g *guests) said() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	calls := g.calls
	g.calls = nil
	return calls
}

// last is the guest that was started last.
func (g *guests) last() *fakeGuest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sessions[len(g.sessions)-1]
}

// alive counts guests that have not been ended.
func (g *guests) alive() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sessions {
		if !isClosed(s.vmm) {
			n++
		}
	}
	return n
}

func read[T any](g *guests, field *T) T {
	g.mu.Lock()
	defer g.mu.Unlock()
	return *field
}

// spoil changes what the guests will do.
func (g *guests) spoil(change func(g *guests)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(g)
}

// takes lets time pass, unless ctx ends.
func takes(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return context.Cause(ctx)
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *guests) start(ctx context.Context, from origin, phases *telemetry.Phases) (running, guest.RestoreReply, error) {
	g.mu.Lock()
	g.origins = append(g.origins, from)
	g.mu.Unlock()
	s, reply, err := g.tryStart(ctx, from, phases)
	if err != nil {
		g.note("not started")
		return nil, reply, err
	}
	return s, reply, nil
}

func (g *guests) tryStart(ctx context.Context, from origin, phases *telemetry.Phases) (running, guest.RestoreReply, error) {
	var reply guest.RestoreReply
	if from.checkpoint == "" {
		phases.Next("disk")
		time.Sleep(diskTime)
		if err := os.WriteFile(from.disk, []byte("disk"), 0o600); err != nil {
			return nil, reply, err
		}
	} else if _, err := os.ReadFile(from.checkpoint); err != nil {
		return nil, reply, err
	}
	phases.Next("vmm")
	time.Sleep(vmmTime)
	phases.Next("load")
	if err := takes(ctx, loadTime+read(g, &g.loadHold)); err != nil {
		return nil, reply, err
	}
	if err := read(g, &g.loadErr); err != nil {
		return nil, reply, err
	}
	if from.beforeRun != nil {
		if err := from.beforeRun(); err != nil {
			return nil, reply, err
		}
	}
	phases.Next("agent")
	time.Sleep(agentTime)
	if err := read(g, &g.runErr); err != nil {
		return nil, reply, err
	}
	g.note("start")
	s := newFakeGuest(g)
	if from.request.Hook.Name != "" {
		began := time.Now()
		var err error
		if reply.Hook, err = s.hook(ctx, from.request.Hook); err != nil {
			s.end()
			return nil, reply, err
		}
		reply.HookRan = time.Since(began)
		phases.Split("hook", reply.HookRan)
	}
	return s, reply, nil
}

func (g *guests) adopt(ctx context.Context, _ *survivor, _ netstack.Config, hook guest.HookRequest) (running, error) {
	if err := takes(ctx, read(g, &g.loadHold)); err != nil {
		return nil, err
	}
	if err := read(g, &g.adoptErr); err != nil {
		return nil, err
	}
	g.note("adopt")
	s := newFakeGuest(g)
	if hook.Name != "" {
		if _, err := s.hook(ctx, hook); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// fakeGuest is a guest that runs.
type fakeGuest struct {
	g       *guests
	once    sync.Once
	vmm     chan struct{} // closed when the VMM has ended
	network chan struct{}
	exits   chan int
	streams chan error // ends a stream of events
	opened  time.Time  // guarded by g.mu: when a stream was last opened

	networkBytes atomic.Uint64 // towards it
}

func newFakeGuest(g *guests) *fakeGuest {
	s := &fakeGuest{g: g, vmm: make(chan struct{}), network: make(chan struct{}), exits: make(chan int, 1), streams: make(chan error)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions = append(g.sessions, s)
	return s
}

func (s *fakeGuest) hook(ctx context.Context, request guest.HookRequest) (reply guest.HookReply, err error) {
	s.g.note("hook " + request.Name)
	s.g.mu.Lock()
	a, ok := s.g.answers[request.Name]
	s.g.mu.Unlock()
	if !ok {
		a = answer{status: 200, after: hookTime}
	}
	if a.refuses {
		return reply, errors.New("the agent does not answer")
	}
	if err := s.alive(ctx, min(a.after, request.Timeout)); err != nil {
		return reply, err
	}
	if a.after > request.Timeout {
		return guest.HookReply{TimedOut: true}, nil
	}
	return guest.HookReply{Status: a.status}, nil
}

// alive lets time pass while the VMM lives.
func (s *fakeGuest) alive(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-s.vmm:
			cancel(errors.New("the VMM has gone"))
		case <-stop:
		}
	}()
	return takes(ctx, d)
}

func (s *fakeGuest) forward(context.Context, uint16) (net.Conn, error) {
	if isClosed(s.network) {
		return nil, net.ErrClosed
	}
	host, app := net.Pipe()
	app.Close()
	if taken := read(s.g, &s.g.backlog); taken != nil {
		return backlogged{host, taken}, nil
	}
	return host, nil
}

// backlogged is a connection that the app takes some day.
type backlogged struct {
	net.Conn
	taken chan struct{}
}

func (b backlogged) Pending() bool { return !isClosed(b.taken) }

func (s *fakeGuest) events(ctx context.Context) iter.Seq2[guest.Event, error] {
	return func(yield func(guest.Event, error) bool) {
		s.g.mu.Lock()
		s.opened = time.Now()
		s.g.mu.Unlock()
		for told := 0; ; told++ {
			piece, more := s.g.journal.at(told)
			if piece != nil {
				if !yield(guest.Event{Log: piece}, nil) {
					return
				}
				continue
			}
			select {
			case <-more:
				told--
			case code := <-s.exits:
				yield(guest.Event{Exit: &guest.ExitEvent{Code: code}}, nil)
				return
			case err := <-s.streams:
				yield(guest.Event{}, err)
				return
			case <-s.network:
				yield(guest.Event{}, net.ErrClosed)
				return
			case <-ctx.Done():
				yield(guest.Event{}, ctx.Err())
				return
			}
		}
	}
}

func (s *fakeGuest) pause(ctx context.Context) error {
	s.g.note("pause")
	if err := s.alive(ctx, pauseTime); err != nil {
		return err
	}
	return read(s.g, &s.g.pauseErr)
}

func (s *fakeGuest) goOn(context.Context) error {
	s.g.note("go on")
	return read(s.g, &s.g.goOnErr)
}

func (s *fakeGuest) checkpointTo(ctx context.Context, path, disk string) (int64, error) {
	s.g.note("checkpoint")
	if err := s.alive(ctx, saveTime+read(s.g, &s.g.saveHold)); err != nil {
		return 0, err
	}
	if err := read(s.g, &s.g.saveErr); err != nil {
		return 0, err
	}
	if _, err := os.Stat(disk); err != nil {
		return 0, err
	}
	return 4096, os.WriteFile(path, []byte("checkpoint"), 0o600)
}

func (s *fakeGuest) console(ctx context.Context) ([]byte, error) {
	if isClosed(s.vmm) {
		return nil, vmm.ErrExited
	}
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	said := s.g.consoleSays
	s.g.consoleSays = ""
	return []byte(said), nil
}

func (s *fakeGuest) printed() ([]byte, error) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	said := s.g.vmmSays
	s.g.vmmSays = ""
	return []byte(said), nil
}

func (s *fakeGuest) vmmPID() int { return 4711 }
func (s *fakeGuest) counters() netstack.Counters {
	return netstack.Counters{BytesIn: s.networkBytes.Load()}
}
func (s *fakeGuest) vmmDone() <-chan struct{}     { return s.vmm }
func (s *fakeGuest) networkDone() <-chan struct{} { return s.network }

func (s *fakeGuest) end() {
	s.once.Do(func() {
		time.Sleep(read(s.g, &s.g.endHold))
		s.g.note("end")
		close(s.vmm)
		close(s.network)
	})
}

// die is the VMM going away by itself.
func (s *fakeGuest) die() {
	s.once.Do(func() {
		close(s.vmm)
		close(s.network)
	})
}

func count(calls []string, call string) (n int) {
	for _, c := range calls {
		if c == call {
			n++
		}
	}
	return n
}

func without(calls []string, unwanted ...string) []string {
	return slices.DeleteFunc(calls, func(c string) bool { return slices.Contains(unwanted, c) })
}
