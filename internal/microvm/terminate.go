package microvm

import (
	"errors"
	"os"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// terminate ends a microVM in any state. A SUSPENDED one is not woken for its hook.
func (v *vm) terminate(c command) {
	s := v.view.Load().session
	if s == nil {
		v.end(c, c.reason())
		return
	}
	v.begin(c, c.reason())
	if c.cause != causeExit {
		v.letRequestsEnd(v.m.running, s, func() {})
	}
	if hook := v.version.Config.Hooks.Terminate; hook.Enabled && c.cause != causeExit {
		// Whatever it answers, the VM ends.
		if _, err := s.hook(v.m.running, hookRequest("terminate", v.version.Config.Hooks.Port, hook)); err != nil {
			v.logFailure("terminate hook", c, err)
		}
	}
	v.endSession(c, s, c.reason())
}

// begin records TERMINATING. Requests are refused from now on.
func (v *vm) begin(c command, reason string) {
	rec := v.view.Load().rec
	if rec.State == store.VMTerminating {
		return
	}
	defer v.processes.hangUp(ErrGone)
	rec.State, rec.StateReason = store.VMTerminating, reason
	if err := v.change(rec, nil, v.event(c, "terminate")); err != nil {
		v.logFailure("terminate", c, err)
		v.show(rec, nil, nil) // it ends all the same; a restart cleans up
	}
}

// endSession ends a VM whose session may not be shown (any more).
func (v *vm) endSession(c command, s running, reason string) {
	v.begin(c, reason)
	v.drain(s)
	v.collect(s)
	s.end()
	v.end(c, reason)
}

// end releases everything a microVM has and records TERMINATED.
func (v *vm) end(c command, reason string) {
	v.begin(c, reason)
	if err := errors.Join(os.RemoveAll(v.dir), v.output.Close()); err != nil {
		v.logFailure("removal", c, err)
	}
	rec := v.view.Load().rec
	rec.State, rec.StateReason, rec.TerminatedAt = store.VMTerminated, reason, v.m.clock.Now()
	if err := v.change(rec, nil, v.event(c, "terminate")); err != nil {
		v.logFailure("terminate", c, err)
		v.show(rec, nil, nil)
	}
	v.m.clock.AfterFunc(goneFor, func() { v.m.leave(v) })
}
