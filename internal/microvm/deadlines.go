package microvm

import (
	"time"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// deadline is what time alone will do to a microVM.
type deadline struct {
	at     time.Time // zero: never
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
		expired := deadline{at: rec.SuspendedAt.Add(rec.Idle.MaxSuspended), kind: terminate, cause: causeExpired, reason: reasonExpired}
		if expired.at.Before(next.at) {
			next = expired
		}
	}
	return next
}

func (v *vm) deadline() deadline {
	return nextDeadline(v.view.Load().rec, time.Unix(0, v.lastTraffic.Load()))
}

// untilDue is how long to sleep. Traffic moves the deadline without telling the actor; it then
// wakes once too early and sleeps on.
func (v *vm) untilDue() time.Duration {
	return max(0, v.deadline().at.Sub(v.m.clock.Now()))
}

// due does what a deadline that has passed demands.
func (v *vm) due() {
	next := v.deadline()
	if v.m.clock.Now().Before(next.at) {
		return
	}
	v.perform(command{kind: next.kind, cause: next.cause, detail: next.reason})
}
