package microvm

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestShutdownSuspendsWhatRunsAndTheNextDaemonWakesIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		plain, eager, never := w.run(nil), w.run(idle(hour, hour, true)), w.run(idle(hour, 0, false))
		all := []string{plain, eager, never}
		require.NoError(t, w.Shutdown(t.Context()))
		require.Zero(t, w.guests.alive(), "no VMM is left when it returns")
		for _, id := range all {
			rec := w.row(id)
			require.Equal(t, store.VMSuspended, rec.State)
			require.Equal(t, reasonStopped, rec.StateReason)
			require.Equal(t, causeShutdown, w.lastEvent(id).Cause)
		}

		w.passes(10 * time.Minute)
		w.open()
		w.passes(time.Minute)
		for _, id := range all {
			require.Equal(t, store.VMSuspended, w.row(id).State)
			_, err := w.vm(id).Lease(t.Context())
			require.NoError(t, err, "nobody had asked for it to be suspended")
			require.Empty(t, w.becomes(id, store.VMRunning).StateReason)
		}
	})
}

func TestWhatItsUserSuspendedIsNotWokenByARestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(nil)
		require.NoError(t, w.Shutdown(t.Context()))
		require.Empty(t, w.row(id).StateReason)
		w.open()
		_, err := w.vm(id).Lease(t.Context())
		require.ErrorIs(t, err, ErrSuspended)
	})
}

func TestTrafficDuringAShutdownWakesNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		quick, slow := w.run(idle(hour, hour, true)), w.run(idle(hour, hour, true))
		v := (*vm)(w.vm(slow))
		down := make(chan error)
		w.hooks("suspend")
		v.version.Config.Hooks = w.version.Config.Hooks
		w.guests.spoil(func(g *guests) { g.answers["suspend"] = answer{status: 200, after: 5 * time.Second} })
		go func() { down <- w.Shutdown(context.WithoutCancel(t.Context())) }()
		w.becomes(quick, store.VMSuspended)
		r := w.requests(t.Context(), quick, 1)[0]
		<-r.done
		require.ErrorIs(t, r.err, ErrWakeFailed)
		require.ErrorIs(t, w.Resume(t.Context(), quick), errClosing)
		require.NoError(t, <-down)
		require.Zero(t, w.guests.alive())
		require.Equal(t, store.VMSuspended, w.row(quick).State)
		require.Equal(t, store.VMSuspended, w.row(slow).State)
	})
}

func TestShutdownFinishesALaunchThatHasBegunAndGivesUpThoseThatWait(t *testing.T) {
	inWorldWith(t, func(c *Config) { c.Launching = 1 }, func(t *testing.T, w *world) {
		w.guests.spoil(func(g *guests) { g.loadHold = time.Second })
		begun := w.launch(nil)
		w.settles() // it has the slot
		waiting := w.launch(nil)
		w.settles()
		require.NoError(t, w.Shutdown(t.Context()))
		require.Equal(t, store.VMSuspended, w.row(begun).State)
		rec := w.row(waiting)
		require.Equal(t, store.VMTerminated, rec.State)
		require.Equal(t, reasonInterrupted, rec.StateReason)
		_, err := w.Run(t.Context(), RunSpec{VM: store.MicroVM{ID: "microvm-late", ImageID: "image-1", ImageVersion: "1.0"}, Version: w.version})
		require.ErrorIs(t, err, errClosing)
	})
}

func TestAVMThatCannotBeSuspendedIsLeftForTheNextDaemon(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		stubborn, good := w.run(nil), w.run(nil)
		w.guests.spoil(func(g *guests) { g.saveErr = errors.New("no space") })
		require.ErrorContains(t, w.Shutdown(t.Context()), stubborn)
		require.Equal(t, 2, w.guests.alive())
		for _, id := range []string{stubborn, good} {
			require.Equal(t, store.VMRunning, w.row(id).State)
		}
		require.Equal(t, map[string]int{store.VMRunning: 2}, w.States())
		for _, s := range w.guests.sessions {
			s.die()
		}
	})
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.guests.spoil(func(g *guests) { g.saveHold = time.Minute })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, w.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		require.Equal(t, store.VMRunning, w.row(id).State, "it went on")
		require.Equal(t, 1, w.guests.alive())
		w.guests.last().die()
	})
}

func TestShutdownMayBeRepeated(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run(nil)
		require.NoError(t, w.Shutdown(t.Context()))
		require.NoError(t, w.Shutdown(t.Context()))
		require.Equal(t, map[string]int{store.VMSuspended: 1}, w.States())
	})
}
