package microvm

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestASuspendTakesTheHookThenTheCheckpointThenTheVMM(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("suspend")
		id := w.run(nil)
		began := time.Now()
		require.NoError(t, w.Suspend(WithRequestID(t.Context(), "request-7"), id))
		rec := w.becomes(id, store.VMSuspended)
		require.Equal(t, []string{"hook suspend", "pause", "checkpoint", "end"}, w.guests.said())
		require.Empty(t, rec.StateReason)
		require.Equal(t, []string{"checkpoint", "disk.img"}, w.files(id))
		require.Zero(t, w.guests.alive())

		e := w.lastEvent(id)
		require.Equal(t, "request-7", e.RequestID)
		require.Equal(t, "4096 bytes dirty", e.Detail)
		require.Equal(t, []store.Phase{
			{Name: "record"}, {Name: "queue"}, {Name: "hook", Duration: hookTime},
			{Name: "pause", Duration: pauseTime}, {Name: "checkpoint", Duration: saveTime},
		}, e.Phases)
		require.Equal(t, began.Add(hookTime+pauseTime+saveTime), rec.SuspendedAt.Local())
	})
}

func TestSuspendAndResumeMayBeRepeated(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		require.NoError(t, w.Resume(t.Context(), id), "it runs")
		require.NoError(t, w.Suspend(t.Context(), id))
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		require.NoError(t, w.Suspend(t.Context(), id))
		require.NoError(t, w.Resume(t.Context(), id))
		require.NoError(t, w.Resume(t.Context(), id))
		w.becomes(id, store.VMRunning)
		require.Equal(t, []string{"pause", "checkpoint", "end", "start"}, w.guests.said())

		require.NoError(t, w.Terminate(t.Context(), id))
		require.NoError(t, w.Terminate(t.Context(), id))
		w.becomes(id, store.VMTerminated)
		require.NoError(t, w.Terminate(t.Context(), id))
		require.ErrorIs(t, w.Suspend(t.Context(), id), ErrTerminated)
		require.ErrorIs(t, w.Resume(t.Context(), id), ErrTerminated)
		w.passes(goneFor)
		require.NoError(t, w.Terminate(t.Context(), id), "long after")
		require.ErrorIs(t, w.Suspend(t.Context(), id), ErrTerminated)
		for _, order := range []func() error{
			func() error { return w.Suspend(t.Context(), "microvm-none") },
			func() error { return w.Resume(t.Context(), "microvm-none") },
			func() error { return w.Terminate(t.Context(), "microvm-none") },
		} {
			require.ErrorIs(t, order(), ErrNotFound)
		}
	})
}

func TestASuspendHookThatFailsEndsTheMicroVM(t *testing.T) {
	for name, c := range map[string]struct {
		answer answer
		reason string
	}{
		"503":         {answer{status: 503}, "Suspend lifecycle hook returned HTTP status 503. Please check your hook endpoint and application logs for more details."},
		"timeout":     {answer{status: 200, after: time.Minute}, "Suspend hook invocation timed out after PT10S"},
		"unreachable": {answer{}, "Suspend lifecycle hook could not be called. Please check your hook endpoint and application logs for more details."},
		"no agent":    {answer{refuses: true}, "Suspend lifecycle hook could not be called. Please check your hook endpoint and application logs for more details."},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.hooks("suspend", "terminate")
				w.guests.spoil(func(g *guests) { g.answers["suspend"] = c.answer })
				id := w.run(nil)
				require.NoError(t, w.Suspend(t.Context(), id))
				rec := w.becomes(id, store.VMTerminated)
				require.Equal(t, c.reason, rec.StateReason)
				require.Equal(t, []string{"hook suspend", "end"}, w.guests.said())
				require.Empty(t, w.files(id))
			})
		})
	}
}

func TestAVMThatCannotBeSavedGoesOnAndSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(g *guests)
		reason string
	}{
		"no space":   {func(g *guests) { g.saveErr = fmt.Errorf("write: %w", syscall.ENOSPC) }, "The MicroVM could not be suspended because the host has no space left to save its state. It keeps running."},
		"no quota":   {func(g *guests) { g.saveErr = fmt.Errorf("write: %w", syscall.EDQUOT) }, "The MicroVM could not be suspended because the host has no space left to save its state. It keeps running."},
		"pause":      {func(g *guests) { g.pauseErr = errors.New("QMP stop") }, "The MicroVM could not be suspended. It keeps running."},
		"never done": {func(g *guests) { g.saveHold = time.Hour }, "The MicroVM could not be suspended. It keeps running."},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.hooks("suspend", "resume")
				id := w.run(nil)
				w.guests.spoil(c.spoil)
				require.NoError(t, w.Suspend(t.Context(), id))
				w.passes(saveLimit)
				rec := w.becomes(id, store.VMRunning)
				require.Equal(t, []string{c.reason, c.reason}, []string{rec.StateReason, w.lastEvent(id).Detail})
				require.Equal(t, []string{"hook suspend", "pause", "go on", "hook resume"}, without(w.guests.said(), "checkpoint"))
				require.Equal(t, []string{"disk.img"}, w.files(id))
				_, err := w.vm(id).Lease(t.Context())
				require.NoError(t, err)
				w.guests.spoil(func(g *guests) { g.pauseErr, g.saveErr, g.saveHold = nil, nil, 0 })
				require.NoError(t, w.Suspend(t.Context(), id), "it can be tried again")
				require.Empty(t, w.becomes(id, store.VMSuspended).StateReason)
			})
		})
	}
}

func TestASuspendThatCannotBeRecordedLeavesAVMThatRunsWithoutACheckpoint(t *testing.T) {
	for _, at := range []string{store.VMSuspending, store.VMSuspended} {
		t.Run(at, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				id := w.run(idle(time.Minute, time.Hour, true))
				var tries atomic.Int32
				w.records.failing(func(to string) error {
					if to != at {
						return nil
					}
					tries.Add(1)
					return errors.New("database is full")
				})
				w.passes(time.Minute + time.Second)
				require.Equal(t, store.VMRunning, w.row(id).State)
				require.Equal(t, []string{"disk.img"}, w.files(id))
				w.passes(30 * time.Second)
				require.EqualValues(t, 1, tries.Load(), "an idle VM is tried again only after another idle period")
				w.passes(30 * time.Second)
				require.EqualValues(t, 2, tries.Load())
				w.records.failing(func(string) error { return nil })
				w.passes(time.Minute + time.Second)
				require.Equal(t, store.VMSuspended, w.row(id).State)
			})
		})
	}
}

func TestAVMMThatEndsDuringASuspendEndsTheMicroVM(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("suspend")
		w.guests.spoil(func(g *guests) { g.answers["suspend"] = answer{status: 200, after: 9 * time.Second} })
		id := w.run(nil)
		require.NoError(t, w.Suspend(t.Context(), id))
		w.passes(time.Second)
		w.guests.last().die()
		require.Equal(t, reasonVMMDied, w.becomes(id, store.VMTerminated).StateReason, "not the hook's fault")
	})
}

func TestAVMThatCanNeitherBeSavedNorGoOnEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.guests.spoil(func(g *guests) { g.saveErr, g.goOnErr = syscall.ENOSPC, errors.New("QMP cont") })
		require.NoError(t, w.Suspend(t.Context(), id))
		require.Equal(t, reasonVMMDied, w.becomes(id, store.VMTerminated).StateReason)
		require.Zero(t, w.guests.alive())
	})
}

func TestASuspendThatWaitsForASlotIsSuspendingMeanwhile(t *testing.T) {
	inWorldWith(t, func(c *Config) { c.Launching = 1 }, func(t *testing.T, w *world) {
		w.hooks("suspend")
		w.guests.spoil(func(g *guests) { g.answers["suspend"] = answer{status: 200, after: time.Second} })
		first, second := w.run(nil), w.run(nil)
		require.NoError(t, w.Suspend(t.Context(), first))
		require.NoError(t, w.Suspend(t.Context(), second), "begun, and recorded")
		require.Equal(t, store.VMSuspending, w.row(second).State)
		w.passes(500 * time.Millisecond)
		require.Equal(t, 1, count(w.guests.said(), "hook suspend"), "hooks have a timeout, so they do not compete")
		w.becomes(first, store.VMSuspended)
		w.becomes(second, store.VMSuspended)
	})
}
