package microvm

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestALaunchGoesFromPendingToRunningAndTellsWhereItsTimeWent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("run")
		began := time.Now()
		id := w.launch(nil)
		rec := w.becomes(id, store.VMRunning)
		require.Empty(t, rec.StateReason)
		require.Equal(t, []string{"disk.img"}, w.files(id))
		require.Equal(t, []string{"start", "hook run"}, w.guests.said())

		e := w.lastEvent(id)
		require.Equal(t, []string{"launch", store.VMPending, store.VMRunning, causeAPI}, []string{e.Operation, e.From, e.To, e.Cause})
		require.Equal(t, []store.Phase{
			{Name: "queue"}, {Name: "disk", Duration: diskTime}, {Name: "vmm", Duration: vmmTime},
			{Name: "load", Duration: loadTime}, {Name: "agent", Duration: agentTime}, {Name: "hook", Duration: hookTime},
		}, e.Phases)
		var total time.Duration
		for _, phase := range e.Phases {
			total += phase.Duration
		}
		require.Equal(t, e.At.Sub(began), total)
	})
}

func TestTheRunHookDecidesWhetherALaunchSucceeds(t *testing.T) {
	for name, c := range map[string]struct {
		answer answer
		reason string
	}{
		"500":         {answer{status: 500}, "Run lifecycle hook returned HTTP status 500. Please check your hook endpoint and application logs for more details."},
		"404":         {answer{status: 404}, "Run lifecycle hook returned HTTP status 404. Please check your hook endpoint and application logs for more details."},
		"204":         {answer{status: 204}, "Run lifecycle hook returned HTTP status 204. Please check your hook endpoint and application logs for more details."},
		"timeout":     {answer{status: 200, after: time.Minute}, "Run hook invocation timed out after PT10S"},
		"unreachable": {answer{}, "Run lifecycle hook could not be called. Please check your hook endpoint and application logs for more details."},
		"no agent":    {answer{refuses: true}, reasonLaunch},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.hooks("run", "terminate")
				w.guests.spoil(func(g *guests) { g.answers["run"] = c.answer })
				id := w.launch(nil)
				rec := w.becomes(id, store.VMTerminated)
				require.Equal(t, c.reason, rec.StateReason)
				require.False(t, rec.TerminatedAt.IsZero())
				require.Zero(t, w.guests.alive())
				require.Empty(t, w.files(id))
				require.NotContains(t, w.guests.said(), "hook terminate", "it never was RUNNING")
				for _, e := range w.events(id) {
					require.NotEqual(t, store.VMRunning, e.To)
				}
			})
		})
	}
}

func TestALaunchThatFailsInTheHostEndsWithATextForUsers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guests.spoil(func(g *guests) { g.loadErr = errors.New("/secret/path: QEMU refused it") })
		id := w.launch(nil)
		rec := w.becomes(id, store.VMTerminated)
		require.Equal(t, reasonLaunch, rec.StateReason)
		require.NotContains(t, rec.StateReason, "secret")
		require.Equal(t, reasonLaunch, w.lastEvent(id).Detail, "whoever owns it may read its events")
		require.Empty(t, w.files(id))
	})
}

func TestTheRunHookGetsThePayloadAsItWasGiven(t *testing.T) {
	for want, rec := range map[string]store.MicroVM{
		`{"microvmId":"microvm-1"}`:                              {ID: "microvm-1"},
		`{"microvmId":"microvm-1","runHookPayload":""}`:          {ID: "microvm-1", HasPayload: true},
		`{"microvmId":"microvm-1","runHookPayload":"{\"a\":1}"}`: {ID: "microvm-1", HasPayload: true, RunHookPayload: `{"a":1}`},
	} {
		got, err := runHookBody(rec)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

func TestNoMoreLaunchesRunAtOnceThanThereAreSlotsAndASlowGuestHoldsOneOnlyForAWhile(t *testing.T) {
	inWorldWith(t, func(c *Config) { c.Launching = 2 }, func(t *testing.T, w *world) {
		w.hooks("run")
		w.guests.spoil(func(g *guests) { g.answers["run"] = answer{status: 200, after: 9 * time.Second} })
		first, second, third := w.launch(nil), w.launch(nil), w.launch(nil)
		w.passes(slotLimit - time.Millisecond)
		require.Len(t, read(w.guests, &w.guests.origins), 2)
		w.passes(2 * time.Millisecond)
		require.Len(t, read(w.guests, &w.guests.origins), 3, "the hooks of the others still run")
		for _, id := range []string{first, second, third} {
			w.becomes(id, store.VMRunning)
		}
		require.Empty(t, w.slots)
	})
}

func TestAnOrderWaitsForALaunchButNotForASlowOne(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		quick := w.launch(nil)
		require.NoError(t, w.Suspend(t.Context(), quick), "after some hundred milliseconds")
		w.becomes(quick, store.VMSuspended)

		w.hooks("run")
		w.guests.spoil(func(g *guests) { g.answers["run"] = answer{status: 200, after: 9 * time.Second} })
		slow := w.launch(nil)
		began := time.Now()
		require.ErrorIs(t, w.Suspend(t.Context(), slow), ErrConflict)
		require.Equal(t, patience, time.Since(began))
		require.NoError(t, w.Resume(t.Context(), slow), "it is on its way")
		w.becomes(slow, store.VMRunning)
	})
}

func TestARunThatCannotBeRecordedLeavesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		_, err := w.Run(t.Context(), RunSpec{VM: w.row(id), Version: w.version})
		require.ErrorIs(t, err, store.ErrExists)
		w.settles()
		require.Equal(t, 1, w.door.count())
		_, ok := w.ByEndpoint(w.row(id).EndpointID)
		require.True(t, ok, "the other one is still found")
		require.NoError(t, w.Suspend(t.Context(), id))
	})
}

func TestNoRequestIsLetThroughBeforeTheRunHookHasAnswered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("run")
		w.guests.spoil(func(g *guests) { g.answers["run"] = answer{status: 200, after: 5 * time.Second} })
		began := time.Now()
		early := w.requests(t.Context(), w.launch(nil), 1)[0]
		<-early.done
		require.NoError(t, early.err)
		require.Equal(t, []string{"start", "hook run"}, w.guests.said())
		require.GreaterOrEqual(t, time.Since(began), 5*time.Second)

		w.guests.spoil(func(g *guests) { g.answers["run"] = answer{status: 500} })
		early = w.requests(t.Context(), w.launch(nil), 1)[0]
		<-early.done
		require.ErrorIs(t, early.err, ErrGone)
	})
}
