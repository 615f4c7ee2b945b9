package microvm

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

var (
	errGivenUp = errors.New("the client went away")
	realClock  = clockwork.NewRealClock()
)

func withCause(t *testing.T) (context.Context, context.CancelCauseFunc) {
	return context.WithCancelCause(t.Context())
}

// lease lets a request in.
func (w *world) lease(id string) *Lease {
	w.t.Helper()
	l, err := w.vm(id).Lease(w.t.Context())
	require.NoError(w.t, err)
	return l
}

// phase is how long a phase of the last event took; negative if it has none of that name.
func (w *world) phase(id, name string) time.Duration {
	for _, p := range w.lastEvent(id).Phases {
		if p.Name == name {
			return p.Duration
		}
	}
	return -1
}

const drainLimit = 2 * time.Second // the default

func TestASuspendWaitsForRequestsInFlightAndLetsNoNewOnesIn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("suspend")
		id := w.run(idle(hour, hour, true))
		first, second := w.lease(id), w.lease(id)
		began := time.Now()
		require.NoError(t, w.Suspend(t.Context(), id))
		require.Equal(t, store.VMSuspending, w.row(id).State)
		late := w.requests(t.Context(), id, 1)[0]
		w.passes(300 * time.Millisecond)
		second.Answered(Sized)
		second.Release()
		w.passes(400 * time.Millisecond)
		require.Empty(t, w.guests.said(), "the hook comes when all have ended")
		require.False(t, isClosed(late.done))
		conn, err := first.Dial(t.Context(), 80)
		require.NoError(t, err, "who is inside may go on")
		require.NoError(t, conn.Close())
		first.Answered(Unsized)
		first.Release()
		<-late.done
		require.NoError(t, late.err)
		require.EqualValues(t, 2, late.lease.Generation())
		require.Equal(t, []string{"hook suspend", "pause", "checkpoint", "end", "start"}, w.guests.said())

		w.becomes(id, store.VMRunning) // recorded, too
		events := w.events(id)
		suspended := events[len(events)-2]
		require.Equal(t, []store.Phase{
			{Name: "record"}, {Name: "drain", Duration: 700 * time.Millisecond}, {Name: "queue"}, {Name: "hook", Duration: hookTime},
			{Name: "pause", Duration: pauseTime}, {Name: "checkpoint", Duration: saveTime},
		}, suspended.Phases)
		require.Equal(t, began.Add(700*time.Millisecond+hookTime+pauseTime+saveTime), suspended.At.Local())
	})
}

func TestASuspendWaitsSoLongAndNoLonger(t *testing.T) {
	for name, c := range map[string]struct {
		response Response
		age      time.Duration // of the response when the suspend begins; negative: none yet
		want     time.Duration // of the drain; negative: there is none
	}{
		"no response":                            {age: -1, want: drainLimit},
		"a download":                             {Sized, time.Minute - time.Second, drainLimit},
		"a response of unknown length":           {Unsized, streamAge - 1, drainLimit},
		"a response of unknown length, for long": {Unsized, streamAge, -1},
		"a WebSocket":                            {Stream, 0, -1},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				id := w.run(nil)
				l := w.lease(id)
				if c.age >= 0 {
					l.Answered(c.response)
					w.passes(c.age)
				}
				require.NoError(t, w.Suspend(t.Context(), id))
				w.becomes(id, store.VMSuspended)
				require.Equal(t, c.want, w.phase(id, "drain"))
				require.True(t, l.Stale())
				l.Release()
			})
		})
	}
}

func TestHowLongASuspendWaitsCanBeConfigured(t *testing.T) {
	inWorldWith(t, func(c *Config) { c.DrainLimit = 50 * time.Millisecond }, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.lease(id)
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		require.Equal(t, 50*time.Millisecond, w.phase(id, "drain"))
	})
}

func TestARequestThatBecomesAStreamMeanwhileIsNotWaitedFor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		l := w.lease(id)
		require.NoError(t, w.Suspend(t.Context(), id))
		w.passes(time.Second)
		l.Answered(Stream)
		w.becomes(id, store.VMSuspended)
		require.Equal(t, time.Second, w.phase(id, "drain"))
	})
}

func TestSilentRequestsDoNotDelayTheSuspendOfAnIdleMicroVM(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(idle(time.Minute, hour, true))
		w.lease(id)
		w.lease(id).Answered(Sized)
		w.becomes(id, store.VMSuspended)
		require.Equal(t, causeIdle, w.lastEvent(id).Cause)
		require.Negative(t, w.phase(id, "drain"))
	})
}

func TestARequestThatComesAtTheLastMomentBeforeAnIdleSuspendIsNotSilent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(idle(time.Minute, hour, true))
		w.passes(time.Minute - time.Millisecond)
		l := w.lease(id) // and has sent nothing yet
		w.passes(time.Millisecond)
		require.Equal(t, store.VMSuspending, w.row(id).State)
		w.passes(time.Second)
		require.Equal(t, store.VMSuspending, w.row(id).State)
		l.Release()
		w.becomes(id, store.VMSuspended)
	})
}

func TestATerminateWaitsForRequestsBeforeItsHook(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("terminate")
		id := w.run(nil)
		l, stuck := w.lease(id), w.lease(id)
		began := time.Now()
		require.NoError(t, w.Terminate(t.Context(), id))
		require.Zero(t, time.Since(began), "it is TERMINATING at once")
		_, err := w.vm(id).Lease(t.Context())
		require.ErrorIs(t, err, ErrGone)
		l.Release()
		w.passes(drainLimit - 1)
		require.Empty(t, w.guests.said())
		w.becomes(id, store.VMTerminated)
		require.Equal(t, []string{"hook terminate", "end"}, w.guests.said())
		stuck.Release()
	})
}

func TestAShutdownWaitsForRequests(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		l := w.lease(id)
		time.AfterFunc(time.Second, l.Release)
		require.NoError(t, w.Shutdown(t.Context()))
		require.Equal(t, time.Second, w.phase(id, "drain"))
	})
}

func TestNobodyWaitsForRequestsOfAMicroVMThatEndsAnyway(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(w *world, id string)
		reason string
	}{
		"terminated": {func(w *world, id string) { require.NoError(w.t, w.Terminate(w.t.Context(), id)) }, reasonSuccess},
		"VMM died":   {func(w *world, _ string) { w.guests.last().die() }, reasonVMMDied},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				id := w.run(nil)
				w.lease(id)
				require.NoError(t, w.Suspend(t.Context(), id))
				w.passes(time.Millisecond)
				began := time.Now()
				c.end(w, id)
				rec := w.becomes(id, store.VMTerminated)
				require.Equal(t, c.reason, rec.StateReason)
				require.Less(t, rec.TerminatedAt.Sub(began), drainLimit/2)
			})
		})
	}
}

func TestRequestsOutliveASuspendThatFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.guests.spoil(func(g *guests) { g.saveErr = errGivenUp })
		l := w.lease(id)
		require.NoError(t, w.Suspend(t.Context(), id))
		require.True(t, l.Stale())
		w.becomes(id, store.VMRunning)
		require.False(t, l.Stale(), "its connection is whole")
		l.Answered(Sized)
		l.Release()
		require.Empty(t, w.vm(id).gate.inside)
	})
}
