package microvm

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestAVMIsSuspendedExactlyWhenItHasBeenIdleForLongEnough(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(idle(time.Minute, hour, true))
		w.passes(time.Minute - time.Millisecond)
		require.Equal(t, store.VMRunning, w.row(id).State)
		w.passes(time.Millisecond)
		require.Equal(t, store.VMSuspending, w.row(id).State)
		w.becomes(id, store.VMSuspended)
		require.Equal(t, causeIdle, w.lastEvent(id).Cause)
	})
}

func TestTrafficKeepsAVMFromBeingIdle(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(idle(time.Minute, hour, true))
		lease, err := w.vm(id).Lease(t.Context())
		require.NoError(t, err)
		for range 10 {
			w.passes(59 * time.Second)
			lease.Touch()
			require.Equal(t, store.VMRunning, w.row(id).State)
		}
		w.passes(time.Minute)
		w.becomes(id, store.VMSuspended)
	})
}

func TestAStreamKeepsAVMUpWhileItHasMessagesAndNotByBeingOpen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(idle(time.Minute, hour, true))
		stream := w.lease(id)
		stream.Answered(Stream)
		for range 180 {
			w.passes(time.Second)
			stream.Touch()
		}
		require.Equal(t, store.VMRunning, w.row(id).State)
		w.passes(time.Minute - time.Millisecond)
		require.Equal(t, store.VMRunning, w.row(id).State)
		w.passes(time.Millisecond)
		w.becomes(id, store.VMSuspended)
		require.Equal(t, causeIdle, w.lastEvent(id).Cause)
	})
}

func TestRequestsThatAreRefusedOrGiveUpAreNoTraffic(t *testing.T) {
	inWorldWith(t, func(c *Config) { c.MaxParked = 1 }, func(t *testing.T, w *world) {
		id := w.asleep(idle(time.Minute, hour, true))
		before := w.vm(id).lastTraffic.Load()
		w.guests.spoil(func(g *guests) { g.loadHold = time.Minute })
		ctx, cancel := context.WithCancel(t.Context())
		r := w.requests(ctx, id, 1)[0]
		w.settles()
		_, err := w.vm(id).Lease(t.Context())
		require.ErrorIs(t, err, ErrBusy)
		cancel()
		<-r.done
		require.Equal(t, before, w.vm(id).lastTraffic.Load())
		w.becomes(id, store.VMRunning)
	})
}

func TestControlPlaneCallsAndOpenLeasesAreNoTraffic(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(idle(time.Minute, hour, true))
		w.passes(59 * time.Second)
		require.NoError(t, w.Resume(t.Context(), id))
		_, err := w.vm(id).Lease(t.Context())
		require.NoError(t, err)
		w.passes(time.Second)
		w.becomes(id, store.VMSuspended)
	})
}

func TestAVMWithoutAnIdlePolicyRunsOn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.passes(7 * hour)
		require.Equal(t, store.VMRunning, w.row(id).State)
	})
}

func TestASuspendedVMEndsWhenItHasBeenSuspendedForTooLong(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("terminate")
		id := w.asleep(idle(hour, time.Minute, true))
		suspended := w.row(id).SuspendedAt
		w.passes(time.Until(suspended.Add(time.Minute)) - time.Millisecond)
		require.Equal(t, store.VMSuspended, w.row(id).State)
		w.passes(time.Millisecond)
		rec := w.row(id)
		require.Equal(t, store.VMTerminated, rec.State)
		require.Equal(t, reasonExpired, rec.StateReason)
		require.Empty(t, w.guests.said(), "it is not woken for its hook")
		require.Empty(t, w.files(id))
	})
}

func TestNoTimeToBeSuspendedMeansTheEndInstead(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("suspend", "terminate")
		id := w.run(idle(time.Minute, 0, true))
		w.passes(time.Minute + time.Second)
		rec := w.row(id)
		require.Equal(t, store.VMTerminated, rec.State)
		require.Equal(t, reasonExpired, rec.StateReason)
		require.Equal(t, []string{"hook terminate", "end"}, w.guests.said())
	})
}

func TestLifetimeIsWallClockFromTheStartWhateverTheState(t *testing.T) {
	short := func(rec *store.MicroVM) { rec.MaximumDuration = time.Minute }
	for name, ready := range map[string]func(w *world) string{
		"running":   func(w *world) string { return w.run(short) },
		"suspended": func(w *world) string { return w.asleep(short) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				id := ready(w)
				ends := w.row(id).StartedAt.Add(time.Minute)
				w.passes(time.Until(ends) - time.Millisecond)
				before := w.row(id).State
				w.passes(time.Millisecond)
				require.NotEqual(t, before, w.row(id).State)
				rec := w.becomes(id, store.VMTerminated)
				require.Equal(t, reasonLifetime, rec.StateReason)
				require.Equal(t, causeLifetime, w.lastEvent(id).Cause)
			})
		})
	}
}

func TestNextDeadline(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	for name, c := range map[string]struct {
		rec         store.MicroVM
		lastTraffic time.Time
		want        deadline
	}{
		"idle before the end of life": {
			store.MicroVM{State: store.VMRunning, Idle: &store.IdlePolicy{MaxIdle: 5 * time.Minute, MaxSuspended: hour}}, at(10),
			deadline{at(15), suspend, causeIdle, ""},
		},
		"life ends before it is idle": {
			store.MicroVM{State: store.VMRunning, Idle: &store.IdlePolicy{MaxIdle: 5 * time.Minute, MaxSuspended: hour}}, at(58),
			deadline{at(60), terminate, causeLifetime, reasonLifetime},
		},
		"suspended by a daemon that ended": {
			store.MicroVM{State: store.VMSuspended, SuspendedAt: at(10), StateReason: reasonStopped, Idle: &store.IdlePolicy{}}, at(9),
			deadline{at(60), terminate, causeLifetime, reasonLifetime},
		},
		"suspended by its user, with no time for it": {
			store.MicroVM{State: store.VMSuspended, SuspendedAt: at(10), Idle: &store.IdlePolicy{}}, at(9),
			deadline{at(10), terminate, causeExpired, reasonExpired},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.rec.StartedAt, c.rec.MaximumDuration = start, hour
			require.Equal(t, c.want, nextDeadline(c.rec, c.lastTraffic))
		})
	}
}
