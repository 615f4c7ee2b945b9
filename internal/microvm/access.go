package microvm

import (
	"context"
	"errors"
	"net"

	"github.com/dormouse-dev/dormouse/internal/store"
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

// Lease is a serving microVM as of one launch or resume.
type Lease struct {
	vm         *vm
	session    running
	generation uint64
}

// ID is microvm-<uuid>.
func (a *VM) ID() string { return a.id }

// Ingress lists the ingress connectors, ARNs.
func (a *VM) Ingress() []string { return a.view.Load().rec.IngressConnectors }

// Lease returns when the microVM serves. It waits while the VM is PENDING or SUSPENDING, and wakes a
// SUSPENDED one if its idle policy says so: one wake, however many wait.
// Errors: ErrGone, ErrSuspended, ErrWakeFailed, ErrBusy, or ctx's.
func (a *VM) Lease(ctx context.Context) (*Lease, error) {
	v := (*vm)(a)
	for waited := false; ; waited = true {
		now := v.view.Load()
		switch now.rec.State {
		case store.VMTerminating, store.VMTerminated:
			return nil, ErrGone
		case store.VMSuspended:
			if !wakesOnTraffic(now.rec) {
				return nil, ErrSuspended
			}
		}
		if waited && now.wakeErr != nil {
			return nil, errors.Join(ErrWakeFailed, now.wakeErr)
		}
		if now.session != nil {
			return &Lease{vm: v, session: now.session, generation: now.generation}, nil
		}
		if err := v.wait(ctx, now); err != nil {
			return nil, err
		}
	}
}

// wait returns at the next change after now, and sees to it that a SUSPENDED microVM changes.
func (v *vm) wait(ctx context.Context, now *view) error {
	if v.parked.Add(1) > int64(v.m.cfg.MaxParked) {
		v.parked.Add(-1)
		return ErrBusy
	}
	defer v.parked.Add(-1)
	now.waiting.Add(1) // before the knock, which is void when nobody waits
	defer now.waiting.Add(-1)
	if now.rec.State == store.VMSuspended {
		select {
		case v.knocks <- struct{}{}:
		default: // somebody has knocked already
		}
	}
	select {
	case <-now.changed:
		return nil
	case <-v.ended:
		if v.over() {
			return ErrGone
		}
		return errors.Join(ErrWakeFailed, errClosing)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Generation counts launches and resumes; connections belong to one.
func (l *Lease) Generation() uint64 { return l.generation }

// Dial connects to a TCP port on the guest's loopback. ErrStale: the VM was suspended since the
// lease was taken. A port nobody listens on gives guest.ErrRefused, at the first read.
func (l *Lease) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	conn, err := l.session.forward(ctx, port)
	if err != nil && l.vm.view.Load().session != l.session {
		return nil, errors.Join(ErrStale, err)
	}
	if err != nil {
		return nil, err
	}
	return countedConn{conn, &l.vm.traffic}, nil
}

// Touch reports traffic through the endpoint, which keeps the microVM from being idle.
func (l *Lease) Touch() { l.vm.touch() }
