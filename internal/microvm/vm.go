package microvm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// kind is what an actor can be told to do.
type kind int

const (
	launch kind = iota
	adopt       // go on with the session it was given
	suspend
	resume
	terminate
	shutdown // be suspended or ended before the daemon ends; accepted comes when done
)

var kindNames = [...]string{"launch", "adopt", "suspend", "resume", "terminate", "shutdown"}

type command struct {
	kind      kind
	cause     string
	requestID string
	detail    string
	accepted  chan error // of size 1; answered when the change has begun and is recorded; may be nil
}

// accept answers the command's sender, at most once with effect.
func (c command) accept(err error) {
	if c.accepted == nil {
		return
	}
	select {
	case c.accepted <- err:
	default:
	}
}

// vm is one microVM: its record, its session while it runs, and the actor that changes both.
type vm struct {
	m       *Manager
	id      string
	version store.ImageVersion
	image   *snapshot.Image
	dir     string

	commands chan command
	wake     chan struct{} // of size 1: traffic for a suspended VM
	view     atomic.Pointer[view]

	lastTraffic atomic.Int64                            // Unix nanoseconds
	parked      atomic.Int64                            // requests that wait for the VM
	ended       chan struct{}                           // closed when the actor has returned
	interrupt   atomic.Pointer[context.CancelCauseFunc] // ends the operation under way, for a terminate

	// Only the actor uses these.
	generation uint64
	appExit    chan int
}

// view is what others see of a microVM. It never changes: a change makes a new one and closes
// changed of the old one.
type view struct {
	rec        store.MicroVM
	session    running // nil unless it serves
	generation uint64
	wakeErr    error // why the last wake failed
	changed    chan struct{}
}

func newVM(m *Manager, rec store.MicroVM, version store.ImageVersion, image *snapshot.Image) *vm {
	v := &vm{
		m: m, id: rec.ID, version: version, image: image, dir: vmDir(m.vmsDir(), rec.ID),
		commands: make(chan command), wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	v.view.Store(&view{rec: rec, changed: make(chan struct{})})
	v.touch()
	return v
}

func (v *vm) setAddr(addr netip.Addr) {
	now := *v.view.Load()
	now.rec.EndpointAddr = addr.String()
	v.view.Store(&now)
}

func (v *vm) touch() { v.lastTraffic.Store(v.m.clock.Now().UnixNano()) }

// The files of a microVM.
func (v *vm) disk() string       { return filepath.Join(v.dir, snapshot.DiskFile) }
func (v *vm) checkpoint() string { return filepath.Join(v.dir, "checkpoint") }

// resuming is the name of a checkpoint whose guest is about to run again: it must not be gone
// back to, because the disk has moved on.
func (v *vm) resuming() string { return v.checkpoint() + ".resuming" }

// order sends a command and waits until it is accepted or refused.
func (v *vm) order(ctx context.Context, c command) error {
	if c.kind == terminate {
		if cancel := v.interrupt.Load(); cancel != nil {
			(*cancel)(errTerminating)
		}
	}
	select {
	case v.commands <- c:
	case <-v.ended:
		return ErrTerminated
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.accepted:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errTerminating = errors.New("the microVM is being terminated")

// act is the actor: it does one thing at a time until the microVM is TERMINATED or the daemon ends.
func (v *vm) act(first command) {
	defer v.m.actors.Done()
	defer close(v.ended)
	v.perform(first)
	for !v.over() {
		timer := v.m.clock.NewTimer(v.untilDue())
		select {
		case c := <-v.commands:
			v.perform(c)
		case <-v.wake:
			v.perform(command{kind: resume, cause: causeTraffic})
		case <-v.vmmDone():
			v.vanished()
		case code := <-v.appExit:
			v.perform(command{kind: terminate, cause: causeExit, detail: fmt.Sprintf("Container Stopped with Exit Code: %d", code)})
		case <-timer.Chan():
			v.due()
		case <-v.m.running.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

func (v *vm) over() bool { return v.view.Load().rec.State == store.VMTerminated }

// perform carries out one command, unless the state makes it void.
func (v *vm) perform(c command) {
	// Only the manager's end cuts an operation short here; order does it for a terminate.
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if c.kind != terminate && c.kind != shutdown {
		v.interrupt.Store(&cancel)
		defer v.interrupt.Store(nil)
	}
	switch c.kind {
	case launch:
		v.launch(ctx, c)
	case adopt:
		v.watch(v.view.Load().session)
	case suspend:
		v.suspend(ctx, c)
	case resume:
		v.resume(ctx, c)
	case terminate:
		v.terminate(ctx, c)
	case shutdown:
		v.shutDown(ctx, c)
	}
}

// change records a new state and shows it. rec.State must be the new state.
func (v *vm) change(rec store.MicroVM, s running, e store.Event) error {
	before := v.view.Load()
	if !legal(before.rec.State, rec.State) {
		return fmt.Errorf("microVM %s: %s → %s is not a legal change", v.id, before.rec.State, rec.State)
	}
	e.Subject, e.From, e.To, e.At = v.id, before.rec.State, rec.State, v.m.clock.Now()
	// The record is written even while the daemon is told to end: half a change is worse.
	if err := v.m.cfg.Records.TransitionMicroVM(context.Background(), rec, before.rec.State, e); err != nil {
		return err
	}
	v.show(rec, s, nil)
	return nil
}

// show publishes a view and wakes everybody who waits for a change.
func (v *vm) show(rec store.MicroVM, s running, wakeErr error) {
	before := v.view.Load()
	v.view.Store(&view{rec: rec, session: s, generation: v.generation, wakeErr: wakeErr, changed: make(chan struct{})})
	close(before.changed)
}

func (v *vm) event(c command, operation string) store.Event {
	return store.Event{Operation: operation, Cause: c.cause, RequestID: c.requestID, Detail: c.detail}
}

func (v *vm) vmmDone() <-chan struct{} {
	if s := v.view.Load().session; s != nil {
		return s.vmmDone()
	}
	return nil
}

// vanished ends a microVM whose VMM has died under it.
func (v *vm) vanished() {
	v.endSession(command{kind: terminate, cause: causeFailure}, v.view.Load().session, reasonVMMDied)
}

// logFailure is the edge where what went wrong inside the daemon is logged, once.
func (v *vm) logFailure(operation string, c command, err error) {
	v.m.log.Error("microVM "+operation+" failed", "microvm", v.id, "cause", c.cause, "request", c.requestID, "err", err)
}

const never = time.Duration(1<<63 - 1)
