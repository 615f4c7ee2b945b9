package microvm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// kind is what an actor can be told to do.
type kind int

const (
	launch kind = iota
	adopt       // go on with what an earlier daemon left: a VMM that runs, or a checkpoint
	suspend
	resume
	terminate
	look     // collect what console and VMM have said
	shutdown // be suspended or ended before the daemon ends; accepted comes when done
)

type command struct {
	kind      kind
	cause     string
	requestID string
	detail    string     // of the event, which its owner may read; for a terminate also the stateReason
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

// reason is the stateReason that a terminate leaves.
func (c command) reason() string {
	if c.detail == "" {
		return reasonSuccess
	}
	return c.detail
}

// patience is how long a suspend or resume waits for an actor that is busy before the state alone
// answers it. What a guest takes some hundred milliseconds for ends within it; a hook may take a minute.
const patience = 5 * time.Second

// order sends a suspend or resume and waits until it is accepted or refused.
func (v *vm) order(ctx context.Context, c command) error {
	if v.state() == store.VMTerminating {
		return ErrConflict
	}
	c.accepted = make(chan error, 1)
	busy := v.m.clock.NewTimer(patience)
	defer busy.Stop()
	sending := v.commands
	for {
		select {
		case sending <- c:
			sending = nil
		case err := <-c.accepted:
			return err
		case <-v.ended:
			select {
			case err := <-c.accepted: // it was the last thing the actor did
				return err
			default:
				return v.endedError()
			}
		case <-busy.Chan():
			return whileBusy(c.kind, v.state())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// endedError is what an order comes to when there is no actor any more.
func (v *vm) endedError() error {
	if v.over() {
		return ErrTerminated
	}
	return errClosing
}

// doomed is why a life has ended: the terminate that ended it.
type doomed struct{ command }

func (doomed) Error() string { return "the microVM is being terminated" }

// doomedBy is the terminate that an actor has still to carry out, if there is one.
func (v *vm) doomedBy() (command, bool) {
	var d doomed
	ok := errors.As(context.Cause(v.life), &d)
	return d.command, ok
}

// terminateNow has the actor end the microVM, whatever it is doing, and waits until that is
// recorded. The first of several terminates is the one that counts.
func (v *vm) terminateNow(ctx context.Context, c command) error {
	v.doom(doomed{c})
	for {
		now := v.view.Load()
		if now.rec.State == store.VMTerminating || now.rec.State == store.VMTerminated {
			return nil
		}
		select {
		case <-now.changed:
		case <-v.ended:
			if v.over() {
				return nil
			}
			return errClosing
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// retire makes a microVM ready for the end of the daemon. Its actor ends.
func (v *vm) retire(ctx context.Context) error {
	c := command{kind: shutdown, cause: causeShutdown, accepted: make(chan error, 1)}
	select {
	case v.commands <- c:
	case <-v.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("microVM %s: %w", v.id, ctx.Err())
	}
	select {
	case err := <-c.accepted:
		return err
	case <-ctx.Done():
		return fmt.Errorf("microVM %s: %w", v.id, ctx.Err())
	}
}

// act is the actor: it does one thing at a time until the microVM is TERMINATED or the daemon ends.
func (v *vm) act(first command) {
	defer v.close()
	v.perform(first)
	for !v.over() {
		timer := v.m.clock.NewTimer(v.untilDue())
		select {
		case <-v.life.Done():
			if end, ok := v.doomedBy(); ok {
				v.terminate(end)
				break
			}
			timer.Stop()
			return
		case c := <-v.commands:
			v.perform(c)
			if c.kind == shutdown {
				timer.Stop()
				return
			}
		case <-v.knocks:
			// A knock may be older than the view: then whoever knocked has been answered.
			if v.gate.parked() > 0 {
				v.perform(command{kind: resume, cause: causeTraffic})
			}
		case <-v.vmmDone():
			v.endSession(command{kind: terminate, cause: causeFailure}, v.view.Load().session, reasonVMMDied)
		case code := <-v.appExit:
			v.perform(command{kind: terminate, cause: causeExit, detail: fmt.Sprintf(reasonExit, code)})
		case <-timer.Chan():
			v.due()
		}
		timer.Stop()
	}
}

func (v *vm) vmmDone() <-chan struct{} {
	if s := v.view.Load().session; s != nil {
		return s.vmmDone()
	}
	return nil
}

// perform carries out one command, unless the state makes it void, or the microVM is doomed.
func (v *vm) perform(c command) {
	if end, ok := v.doomedBy(); ok {
		if c.kind != shutdown {
			c.accept(ErrConflict)
		}
		v.terminate(end)
		c.accept(nil)
		return
	}
	switch c.kind {
	case launch:
		v.launch(c)
	case adopt:
		v.adopt(c)
	case suspend:
		v.suspend(c)
	case resume:
		v.resume(c)
	case terminate:
		v.terminate(c)
	case look:
		v.collectNow()
		c.accept(nil)
	case shutdown:
		v.shutDown(c)
	}
}
