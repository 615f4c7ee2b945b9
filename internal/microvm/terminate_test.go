package microvm

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestATerminateEndsAMicroVMInWhateverStateItIs(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *world) string // returns the id of a microVM that is busy with something that takes long
		state   string
		calls   []string
	}{
		"a launch that loads": {func(w *world) string {
			w.guests.spoil(func(g *guests) { g.loadHold = hour })
			id := w.launch(nil)
			w.passes(time.Second)
			return id
		}, store.VMPending, []string{"not started"}},
		"a launch in its hook": {func(w *world) string {
			w.guests.spoil(func(g *guests) { g.answers["run"] = answer{status: 200, after: 9 * time.Second} })
			id := w.launch(nil)
			w.passes(time.Second)
			w.guests.said()
			return id
		}, store.VMPending, []string{"end", "not started"}},
		"one that runs": {func(w *world) string { return w.run(nil) }, store.VMRunning, []string{"hook terminate", "end"}},
		"a suspend in its hook": {func(w *world) string {
			w.guests.spoil(func(g *guests) { g.answers["suspend"] = answer{status: 200, after: 9 * time.Second} })
			id := w.run(nil)
			require.NoError(w.t, w.Suspend(w.t.Context(), id))
			w.passes(time.Second)
			w.guests.said()
			return id
		}, store.VMSuspending, []string{"end"}},
		"a suspend that writes": {func(w *world) string {
			w.guests.spoil(func(g *guests) { g.saveHold = time.Minute })
			id := w.run(nil)
			require.NoError(w.t, w.Suspend(w.t.Context(), id))
			w.passes(time.Second)
			w.guests.said()
			return id
		}, store.VMSuspending, []string{"end"}},
		"a suspend that failed, in the resume hook": {func(w *world) string {
			w.guests.spoil(func(g *guests) {
				g.saveErr, g.answers["resume"] = errors.New("no"), answer{status: 200, after: 9 * time.Second}
			})
			id := w.run(nil)
			require.NoError(w.t, w.Suspend(w.t.Context(), id))
			w.passes(time.Second)
			w.guests.said()
			return id
		}, store.VMSuspending, []string{"hook terminate", "end"}},
		"one that sleeps": {func(w *world) string { return w.asleep(nil) }, store.VMSuspended, nil},
		"a wake that loads": {func(w *world) string {
			id := w.asleep(nil)
			w.guests.spoil(func(g *guests) { g.loadHold = hour })
			require.NoError(w.t, w.Resume(w.t.Context(), id))
			w.passes(time.Second)
			return id
		}, store.VMSuspended, []string{"not started"}},
		"a wake in its hook": {func(w *world) string {
			id := w.asleep(nil)
			w.guests.spoil(func(g *guests) { g.answers["resume"] = answer{status: 200, after: 9 * time.Second} })
			require.NoError(w.t, w.Resume(w.t.Context(), id))
			w.passes(time.Second)
			w.guests.said()
			return id
		}, store.VMSuspended, []string{"end", "not started"}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.hooks("run", "resume", "suspend", "terminate")
				id := c.prepare(w)
				require.Equal(t, c.state, w.row(id).State)
				began := time.Now()
				require.NoError(t, w.Terminate(WithRequestID(t.Context(), "request-9"), id))
				require.Zero(t, time.Since(began), "it waits for nothing that the guest does")
				require.Contains(t, []string{store.VMTerminating, store.VMTerminated}, w.row(id).State)
				require.Equal(t, reasonSuccess, w.becomes(id, store.VMTerminated).StateReason)
				require.Equal(t, c.calls, w.guests.said())
				require.Zero(t, w.guests.alive())
				require.Empty(t, w.files(id))
				require.Empty(t, w.slots)
				e := w.lastEvent(id)
				require.Equal(t, []string{"terminate", "request-9", store.VMTerminating}, []string{e.Operation, e.RequestID, e.From})
				_, err := w.vm(id).Lease(t.Context())
				require.ErrorIs(t, err, ErrGone)
			})
		})
	}
}

func TestALaunchThatWaitsForASlotCanBeTerminated(t *testing.T) {
	inWorldWith(t, func(c *Config) { c.Launching = 1 }, func(t *testing.T, w *world) {
		w.guests.spoil(func(g *guests) { g.loadHold = time.Second })
		first := w.launch(nil)
		w.settles() // it has the slot
		second := w.launch(nil)
		w.settles()
		require.NoError(t, w.Terminate(t.Context(), second))
		require.Equal(t, reasonSuccess, w.becomes(second, store.VMTerminated).StateReason)
		w.becomes(first, store.VMRunning)
		require.Equal(t, []string{"start"}, w.guests.said())
	})
}

func TestATerminateIsNeitherLostNorMeantForTheNextOperation(t *testing.T) {
	inWorldWith(t, func(c *Config) { c.Launching = 8 }, func(t *testing.T, w *world) {
		w.hooks("suspend", "resume")
		// At every millisecond of a suspend and of the wake that follows.
		for at := range 200 * time.Millisecond / (4 * time.Millisecond) {
			id := w.run(idle(hour, hour, true))
			require.NoError(t, w.Suspend(t.Context(), id))
			r := w.requests(t.Context(), id, 1)[0]
			w.passes(at * 4 * time.Millisecond)
			require.NoError(t, w.Terminate(t.Context(), id))
			require.Equal(t, reasonSuccess, w.becomes(id, store.VMTerminated).StateReason)
			<-r.done
			require.Zero(t, w.guests.alive())
			require.Empty(t, w.files(id))
		}
	})
}

func TestATerminateWhoseCallerGivesUpIsCarriedOutAllTheSame(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.launch(nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = w.Terminate(ctx, id)
		w.becomes(id, store.VMTerminated)
	})
}

func TestWhateverTheTerminateHookAnswersTheVMEnds(t *testing.T) {
	for name, a := range map[string]answer{"500": {status: 500}, "timeout": {status: 200, after: hour}, "no agent": {refuses: true}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.hooks("terminate")
				w.guests.spoil(func(g *guests) { g.answers["terminate"] = a })
				id := w.run(nil)
				require.NoError(t, w.Terminate(t.Context(), id))
				require.NoError(t, w.Terminate(t.Context(), id), "again, while the hook runs")
				_, err := w.vm(id).Lease(t.Context())
				require.ErrorIs(t, err, ErrGone)
				w.passes(11 * time.Second)
				rec := w.row(id)
				require.Equal(t, store.VMTerminated, rec.State)
				require.Equal(t, reasonSuccess, rec.StateReason)
			})
		})
	}
}

func TestOrdersDuringALongTerminateAreRefusedAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("terminate")
		w.guests.spoil(func(g *guests) { g.answers["terminate"] = answer{status: 200, after: 9 * time.Second} })
		id := w.run(nil)
		require.NoError(t, w.Terminate(t.Context(), id))
		began := time.Now()
		require.ErrorIs(t, w.Suspend(t.Context(), id), ErrConflict)
		require.ErrorIs(t, w.Resume(t.Context(), id), ErrConflict)
		require.Zero(t, time.Since(began))
		w.becomes(id, store.VMTerminated)
	})
}

func TestAnAppThatExitsEndsItsMicroVM(t *testing.T) {
	for code, reason := range map[int]string{0: "Container Stopped with Exit Code: 0", 124: "Container Stopped with Exit Code: 124"} {
		inWorld(t, func(t *testing.T, w *world) {
			w.hooks("terminate")
			id := w.run(nil)
			w.passes(time.Minute)
			w.guests.last().exits <- code
			rec := w.becomes(id, store.VMTerminated)
			require.Equal(t, reason, rec.StateReason)
			require.Equal(t, []string{"end"}, w.guests.said(), "/terminate is not called")
			require.Equal(t, causeExit, w.lastEvent(id).Cause)
		})
	}
}

func TestAnExitIsNoticedEvenIfTheAgentDropsTheConnectionMeanwhile(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.passes(2 * watchDelay)
		w.guests.last().streams <- io.EOF
		w.passes(time.Millisecond)
		w.guests.last().exits <- 3
		require.Equal(t, "Container Stopped with Exit Code: 3", w.becomes(id, store.VMTerminated).StateReason)
	})
}

func TestAnAppThatExitsRightAfterAWakeEndsItsMicroVMToo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(nil)
		require.NoError(t, w.Resume(t.Context(), id))
		w.becomes(id, store.VMRunning)
		w.guests.last().exits <- 1
		require.Equal(t, "Container Stopped with Exit Code: 1", w.becomes(id, store.VMTerminated).StateReason)
	})
}

func TestAVMMThatVanishesEndsItsMicroVM(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("terminate")
		id := w.run(nil)
		w.guests.last().die()
		rec := w.becomes(id, store.VMTerminated)
		require.Equal(t, reasonVMMDied, rec.StateReason)
		require.Equal(t, causeFailure, w.lastEvent(id).Cause)
		require.Empty(t, w.guests.said(), "there is nobody to call")
		require.Empty(t, w.files(id))
	})
}

func TestAnEndpointStaysForAMinuteAfterTheEnd(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		endpoint := w.row(id).EndpointID
		require.Equal(t, 1, w.door.count())
		require.NoError(t, w.Terminate(t.Context(), id))
		w.becomes(id, store.VMTerminated)
		w.passes(goneFor - time.Second)
		require.Equal(t, 1, w.door.count())
		_, ok := w.ByEndpoint(endpoint)
		require.True(t, ok)
		w.passes(2 * time.Second)
		require.Zero(t, w.door.count())
		_, ok = w.ByEndpoint(endpoint)
		require.False(t, ok)
	})
}

func TestAnEndThatCannotBeRecordedIsAnEndAllTheSame(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.records.failing(func(string) error { return errors.New("database is full") })
		require.NoError(t, w.Terminate(t.Context(), id))
		w.passes(time.Second)
		require.Zero(t, w.guests.alive())
		require.Empty(t, w.files(id))
		_, err := w.vm(id).Lease(t.Context())
		require.ErrorIs(t, err, ErrGone)
		require.ErrorIs(t, w.Suspend(t.Context(), id), ErrTerminated)
	})
}
