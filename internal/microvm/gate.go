package microvm

import (
	"container/list"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// A crowd that waited for a wake is let in by and by. An app's listen queue may have room for 5; who finds
// it full tries again after TCP's 1, 3 and 7 seconds, and who comes later gets in before.
const (
	// firstWindow is how many of those who waited are inside unanswered, to begin with: one that is served
	// and a short listen queue. That keeps an app busy; more only overlap with the network, and the more
	// there are, the less an app of threads serves them in order.
	firstWindow = 6
	// After each widenEvery, widenBy more are let in if that costs those inside nothing: nobody was answered,
	// or all as quickly as ever, so the app waits for something else than itself. Not if its listen queue is full.
	widenBy    = 16
	widenEvery = 250 * time.Millisecond
	// slower is how much longer than the quickest answers may take for the app to count as not busy.
	slower = 2
	// maxInside bounds the requests inside one microVM; more wait. The agent takes 1024 connections,
	// some of which are the daemon's own, and some idle ones (endpoint.maxUpstreamPerPort).
	maxInside = 896
)

// gate is where requests get into a microVM: at once while it serves, else in the order in which
// they came. It knows who is inside, so that a suspend can wait for them (drain.go).
type gate struct {
	v *vm

	mu         sync.Mutex // guards all below
	now        *view
	closed     error               // why nothing changes the microVM any more
	waiting    list.List           // of *waiter, the first that came in front
	inside     map[*Lease]struct{} // of the present generation
	unanswered int                 // of those inside that have waited
	window     int                 // bound of unanswered
	widening   bool                // a timer will call widen
	dialled    []pending           // connections made for the crowd that the app may not have taken yet
	quickest   time.Duration       // answer to one of the crowd; 0: none yet
	answers    int                 // to the crowd since the last call of widen
	took       time.Duration       // by all of these together
	awaited    map[*Lease]struct{} // by a suspend
	empty      chan struct{}       // closed when nobody is awaited any more
}

// pending is a connection to an app, guest.Client's.
type pending interface{ Pending() bool }

// waiter is a request before the gate.
type waiter struct {
	settled chan struct{} // closed when one of the others is set
	lease   *Lease
	err     error
}

func newGate(v *vm) *gate { return &gate{v: v, inside: map[*Lease]struct{}{}, window: firstWindow} }

// enter returns when the microVM serves and those who came before have been let in.
// Errors: ErrGone, ErrSuspended, ErrWakeFailed, ErrBusy, or ctx's.
func (g *gate) enter(ctx context.Context) (*Lease, error) {
	lease, place, err := g.enterOrWait()
	if place == nil {
		return lease, err
	}
	w := place.Value.(*waiter)
	select {
	case <-w.settled:
		return w.lease, w.err
	case <-ctx.Done():
		return g.giveUp(w, place, context.Cause(ctx))
	}
}

// enterOrWait returns a place among the waiting if there is neither a lease nor an error yet.
func (g *gate) enterOrWait() (*Lease, *list.Element, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.refusal()
	switch {
	case err != nil:
		return nil, nil, err
	case g.waiting.Len() == 0 && g.open():
		return g.letIn(false), nil, nil
	case g.closed != nil:
		return nil, nil, g.closed
	case g.waiting.Len() >= g.v.m.cfg.MaxParked:
		return nil, nil, ErrBusy
	}
	place := g.waiting.PushBack(&waiter{settled: make(chan struct{})})
	g.move()
	return nil, place, nil
}

// giveUp takes a waiter away, unless it has been settled meanwhile.
func (g *gate) giveUp(w *waiter, place *list.Element, cause error) (*Lease, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if isClosed(w.settled) {
		return w.lease, w.err
	}
	g.waiting.Remove(place)
	if g.waiting.Len() == 0 {
		g.calm()
	}
	return nil, cause
}

// turn follows a change of the microVM.
func (g *gate) turn(now *view) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.now != nil && g.now.generation != now.generation {
		g.inside, g.unanswered = map[*Lease]struct{}{}, 0
		g.calm()
	}
	g.now = now
	err := g.refusal()
	if err == nil && now.wakeErr != nil {
		err = errors.Join(ErrWakeFailed, now.wakeErr)
	}
	if err != nil {
		g.refuseAll(err)
		return
	}
	g.move()
}

// close has nobody wait any more.
func (g *gate) close(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = err
	g.refuseAll(err)
}

// parked is how many wait.
func (g *gate) parked() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting.Len()
}

// dials notes a connection to the app, while there is a crowd.
func (g *gate) dials(conn net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if conn, ok := conn.(pending); ok && g.waiting.Len() > 0 {
		g.dialled = append(g.dialled, conn)
	}
}

// What follows is called with mu held.

// refusal is why nobody need wait.
func (g *gate) refusal() error {
	switch g.now.rec.State {
	case store.VMTerminating, store.VMTerminated:
		return ErrGone
	case store.VMSuspended:
		if !wakesOnTraffic(g.now.rec) {
			return ErrSuspended
		}
	}
	return nil
}

func (g *gate) refuseAll(err error) {
	for place := g.waiting.Front(); place != nil; place = g.waiting.Front() {
		w := g.waiting.Remove(place).(*waiter)
		w.err = err
		close(w.settled)
	}
}

func (g *gate) open() bool { return g.now.session != nil && len(g.inside) < maxInside }

func (g *gate) letIn(waited bool) *Lease {
	l := &Lease{gate: g, session: g.now.session, generation: g.now.generation, taken: g.v.m.clock.Now(), crowd: waited}
	g.inside[l] = struct{}{}
	if waited {
		g.unanswered++
	}
	return l
}

// move lets in whoever may come in now, and sees to it that there is a next time.
func (g *gate) move() {
	for g.waiting.Len() > 0 && g.unanswered < g.window && g.open() {
		w := g.waiting.Remove(g.waiting.Front()).(*waiter)
		w.lease = g.letIn(true)
		close(w.settled)
	}
	switch {
	case g.waiting.Len() == 0:
		g.calm()
	case g.now.rec.State == store.VMSuspended:
		select {
		case g.v.knocks <- struct{}{}:
		default: // somebody has knocked already
		}
	case g.now.session != nil && !g.widening:
		g.widening = true
		g.v.m.clock.AfterFunc(widenEvery, g.widen)
	}
}

// calm forgets what was learned of an app while there was a crowd.
func (g *gate) calm() {
	g.window, g.dialled, g.quickest, g.answers, g.took = firstWindow, nil, 0, 0, 0
}

// widen makes room for those who wait behind unanswered ones.
func (g *gate) widen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.widening = false
	if g.waiting.Len() == 0 || g.now.session == nil {
		return
	}
	g.dialled = slices.DeleteFunc(g.dialled, func(conn pending) bool { return !conn.Pending() })
	if len(g.dialled) == 0 && (g.answers == 0 || g.took/time.Duration(g.answers) <= slower*g.quickest) {
		g.window += widenBy
	}
	g.answers, g.took = 0, 0
	g.move()
}

// answered notes that a request inside got its response, or is out again.
func (g *gate) answered(l *Lease) {
	if l.crowd && l.generation == g.now.generation {
		took := g.v.m.clock.Since(l.taken)
		if g.quickest == 0 || took < g.quickest {
			g.quickest = took
		}
		g.unanswered--
		g.answers++
		g.took += took
		g.move()
	}
	l.crowd = false
}
