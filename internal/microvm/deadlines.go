package microvm

import (
	"time"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// deadline is what time alone will do to a microVM.
type deadline struct {
	at     time.Time
	kind   kind
	cause  string
	reason string
}

// nextDeadline applies idle policy and lifetime (spec/behaviour.md 10). Lifetime is wall clock from
// the start and goes on while suspended; only traffic through the endpoint defers idleness.
func nextDeadline(rec store.MicroVM, lastTraffic time.Time) deadline {
	next := deadline{at: rec.StartedAt.Add(rec.MaximumDuration), kind: terminate, cause: causeLifetime, reason: reasonLifetime}
	if rec.Idle == nil {
		return next
	}
	switch rec.State {
	case store.VMRunning:
		idle := deadline{at: lastTraffic.Add(rec.Idle.MaxIdle), kind: suspend, cause: causeIdle}
		if rec.Idle.MaxSuspended == 0 { // terminate instead of staying suspended
			idle.kind, idle.reason = terminate, reasonExpired
		}
		if idle.at.Before(next.at) {
			next = idle
		}
	case store.VMSuspended:
		if rec.Idle.MaxSuspended == 0 && rec.StateReason == reasonStopped {
			break // it was not idle: only the daemon ended
		}
		expired := deadline{at: rec.SuspendedAt.Add(rec.Idle.MaxSuspended), kind: terminate, cause: causeExpired, reason: reasonExpired}
		if expired.at.Before(next.at) {
			next = expired
		}
	}
	return next
}

// wakesOnTraffic tells whether a request wakes a SUSPENDED microVM: if its idle policy says so, or
// if only the end of a daemon has suspended it.
func wakesOnTraffic(rec store.MicroVM) bool {
	return rec.Idle != nil && rec.Idle.AutoResume || rec.StateReason == reasonStopped
}

// recordRetry is how long after a state could not be recorded that is tried again.
const recordRetry = time.Second

func (v *vm) deadline() deadline {
	return nextDeadline(v.view.Load().rec, time.Unix(0, v.lastTraffic.Load()))
}

// untilDue is how long to sleep. Traffic moves the deadline without telling the actor; it then
// wakes once too early and sleeps on.
func (v *vm) untilDue() time.Duration {
	wait := max(0, v.deadline().at.Sub(v.m.clock.Now()))
	if v.unrecorded != nil {
		wait = min(wait, recordRetry)
	}
	return wait
}

// due does what time demands.
func (v *vm) due() {
	if v.unrecorded != nil {
		c := command{cause: v.unrecorded.Cause, requestID: v.unrecorded.RequestID}
		if err := v.record(v.view.Load().rec, *v.unrecorded); err != nil {
			v.logFailure("record", c, err)
		}
	}
	next := v.deadline()
	if v.m.clock.Now().Before(next.at) {
		return
	}
	v.perform(command{kind: next.kind, cause: next.cause, detail: next.reason})
}
