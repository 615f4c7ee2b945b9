package microvm

import (
	"context"
	"errors"
	"net"
	"time"
)

// VM is a microVM as its endpoint sees it: something to get connections from.
type VM vm

// What keeps a request from its microVM.
var (
	ErrGone       = errors.New("microVM is terminating or terminated")
	ErrSuspended  = errors.New("microVM is suspended and does not resume by itself")
	ErrWakeFailed = errors.New("microVM could not be woken")
	ErrBusy       = errors.New("too many requests wait for this microVM")
	ErrStale      = errors.New("microVM was suspended since")
)

// Lease is the use of a serving microVM, as of one launch or resume, by one request.
type Lease struct {
	gate       *gate
	session    running
	generation uint64
	taken      time.Time

	// Guarded by the gate's mu.
	crowd      bool      // it has waited, and is unanswered
	answeredAt time.Time // zero: not yet
	response   Response
}

// ID is microvm-<uuid>.
func (a *VM) ID() string { return a.id }

// MemoryClass is the minimumMemoryInMiB of its image.
func (a *VM) MemoryClass() int { return a.view.Load().rec.MemoryMiB }

// Ingress lists the ingress connectors, ARNs.
func (a *VM) Ingress() []string { return a.view.Load().rec.IngressConnectors }

// Lease returns when the microVM serves. It waits while the VM is PENDING or SUSPENDING, and wakes a
// SUSPENDED one if its idle policy says so: one wake, however many wait. They are let in in the order
// in which they came. Release must follow.
// Errors: ErrGone, ErrSuspended, ErrWakeFailed, ErrBusy, or ctx's.
func (a *VM) Lease(ctx context.Context) (*Lease, error) { return a.gate.enter(ctx) }

// Generation counts launches and resumes; connections belong to one.
func (l *Lease) Generation() uint64 { return l.generation }

// Dial connects to a TCP port on the guest's loopback. ErrStale: the VM was suspended since the
// lease was taken. A port nobody listens on gives guest.ErrRefused, at the first read.
func (l *Lease) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	conn, err := l.session.forward(ctx, port)
	if err != nil && l.Stale() {
		return nil, errors.Join(ErrStale, err)
	}
	if err != nil {
		return nil, err
	}
	l.gate.dials(conn)
	return countedConn{conn, &l.gate.v.traffic}, nil
}

// Stale tells whether the microVM has begun to be suspended or terminated since the lease was taken.
func (l *Lease) Stale() bool { return l.gate.v.view.Load().session != l.session }

// Answered reports that the request's response has begun.
func (l *Lease) Answered(r Response) {
	g := l.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	l.answeredAt, l.response = g.v.m.clock.Now(), r
	g.answered(l)
	if r == Stream {
		g.left(l)
	}
}

// Release ends the request. Dial and Touch stay usable: connections are kept for the next one.
func (l *Lease) Release() {
	g := l.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.inside, l)
	g.left(l)
	g.answered(l)
	if g.waiting.Len() > 0 {
		g.move()
	}
}

// Touch reports traffic through the endpoint, which keeps the microVM from being idle.
func (l *Lease) Touch() { l.gate.v.touch() }
