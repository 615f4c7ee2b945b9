package microvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

const hour = time.Hour

// asleep runs a microVM and suspends it.
func (w *world) asleep(change func(*store.MicroVM)) string {
	w.t.Helper()
	id := w.run(change)
	require.NoError(w.t, w.Suspend(w.t.Context(), id))
	w.becomes(id, store.VMSuspended)
	w.guests.said()
	return id
}

func TestAResumeStartsFromTheCheckpointAndCallsTheHook(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("resume")
		id := w.asleep(nil)
		require.NoError(t, w.Resume(t.Context(), id))
		rec := w.becomes(id, store.VMRunning)
		require.True(t, rec.SuspendedAt.IsZero())
		require.Equal(t, []string{"start", "hook resume"}, w.guests.said())
		require.Equal(t, []string{"disk.img"}, w.files(id), "the checkpoint is void")
		require.Equal(t, []store.Phase{
			{Name: "queue"}, {Name: "vmm", Duration: vmmTime}, {Name: "load", Duration: loadTime},
			{Name: "agent", Duration: agentTime}, {Name: "hook", Duration: hookTime},
		}, w.lastEvent(id).Phases)
	})
}

func TestManyRequestsWaitForOneWake(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		all := w.requests(t.Context(), id, 50)
		w.becomes(id, store.VMRunning)
		for _, r := range all {
			<-r.done
			require.NoError(t, r.err)
			require.Equal(t, uint64(2), r.lease.Generation())
		}
		require.Equal(t, []string{"start"}, w.guests.said())
		require.Equal(t, causeTraffic, w.lastEvent(id).Cause)
		require.Zero(t, w.vm(id).gate.parked())
	})
}

func TestAWakeThatFailsBeforeTheGuestRanLosesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		w.guests.spoil(func(g *guests) { g.loadErr = errors.New("/secret/path: QEMU refused it") })
		all := w.requests(t.Context(), id, 20)
		for _, r := range all {
			<-r.done
			require.ErrorIs(t, r.err, ErrWakeFailed)
		}
		w.settles()
		require.Equal(t, []string{"not started"}, w.guests.said(), "one try for all of them")
		require.Equal(t, store.VMSuspended, w.row(id).State)
		require.Equal(t, []string{"checkpoint", "disk.img"}, w.files(id))
		e := w.lastEvent(id)
		require.Equal(t, []string{"resume", store.VMSuspended, store.VMSuspended}, []string{e.Operation, e.From, e.To})
		require.Equal(t, reasonNotResumed, e.Detail, "whoever owns it may read its events")

		_, err := w.vm(id).Lease(t.Context())
		require.ErrorIs(t, err, ErrWakeFailed)
		require.Equal(t, []string{"not started"}, w.guests.said(), "the next request tries again")
		w.guests.spoil(func(g *guests) { g.loadErr = nil })
		_, err = w.vm(id).Lease(t.Context())
		require.NoError(t, err)
	})
}

func TestACheckpointThatCannotBeRenamedIsNotLost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		v := (*vm)(w.vm(id))
		require.NoError(t, os.MkdirAll(v.resuming(), 0o700)) // a folder is in the way
		_, err := v.viewed().Lease(t.Context())
		require.ErrorIs(t, err, ErrWakeFailed)
		w.settles()
		require.Equal(t, store.VMSuspended, w.row(id).State)
		require.NoError(t, os.Remove(v.resuming()))
		_, err = v.viewed().Lease(t.Context())
		require.NoError(t, err)
	})
}

func (v *vm) viewed() *VM { return (*VM)(v) }

func TestAGuestRunsOnlyWhenTheVMMThatWasSuspendedHasEnded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guests.spoil(func(g *guests) { g.endHold = time.Second })
		id := w.asleep(idle(hour, hour, true))
		_, err := w.vm(id).Lease(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"end", "start"}, w.guests.said())

		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		require.NoError(t, w.Resume(t.Context(), id))
		w.passes(500 * time.Millisecond)
		require.NoError(t, w.Terminate(t.Context(), id), "which waits for nothing")
		w.becomes(id, store.VMTerminated)
	})
}

func TestAWakeWhoseGuestTheVMMRefusesToRunLosesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		w.guests.spoil(func(g *guests) { g.runErr = fmt.Errorf("%w: no lock on the disk", errNeverRan) })
		_, err := w.vm(id).Lease(t.Context())
		require.ErrorIs(t, err, ErrWakeFailed)
		w.settles()
		require.Equal(t, store.VMSuspended, w.row(id).State)
		require.Equal(t, []string{"checkpoint", "disk.img"}, w.files(id))
		w.guests.spoil(func(g *guests) { g.runErr = nil })
		_, err = w.vm(id).Lease(t.Context())
		require.NoError(t, err)
	})
}

func TestAWakeThatFailsAfterTheGuestRanIsNotRepeatedFromADiskThatHasMovedOn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		w.guests.spoil(func(g *guests) { g.runErr = errors.New("the agent does not answer") })
		all := w.requests(t.Context(), id, 3)
		for _, r := range all {
			<-r.done
			require.ErrorIs(t, r.err, ErrGone)
		}
		require.Equal(t, reasonResumeLost, w.becomes(id, store.VMTerminated).StateReason)
		require.Empty(t, w.files(id))
	})
}

func TestAResumeHookThatFailsIsToldToThoseWhoWaitedAndTheVMRuns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("resume")
		w.guests.spoil(func(g *guests) { g.answers["resume"] = answer{status: 500} })
		id := w.asleep(idle(hour, hour, true))
		all := w.requests(t.Context(), id, 5)
		for _, r := range all {
			<-r.done
			require.ErrorIs(t, r.err, ErrWakeFailed)
			require.ErrorContains(t, r.err, "HTTP status 500")
		}
		require.Equal(t, store.VMRunning, w.becomes(id, store.VMRunning).State)
		_, err := w.vm(id).Lease(t.Context())
		require.NoError(t, err, "it runs")
		require.Equal(t, []string{"start", "hook resume"}, w.guests.said())
		require.Contains(t, w.lastEvent(id).Detail, "HTTP status 500")
	})
}

func TestWithoutAutoResumeARequestIsRefusedAtOnce(t *testing.T) {
	for name, change := range map[string]func(*store.MicroVM){"no idle policy": nil, "a policy without": idle(hour, hour, false)} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				id := w.asleep(change)
				began := time.Now()
				_, err := w.vm(id).Lease(t.Context())
				require.ErrorIs(t, err, ErrSuspended)
				require.Zero(t, time.Since(began))
				w.passes(time.Minute)
				require.Empty(t, w.guests.said())
			})
		})
	}
}

func TestOnlySoManyRequestsWaitForOneVM(t *testing.T) {
	inWorldWith(t, func(c *Config) { c.MaxParked = 3 }, func(t *testing.T, w *world) {
		id := w.launch(nil)
		w.settles()
		waiting := w.requests(t.Context(), id, 3)
		w.settles()
		_, err := w.vm(id).Lease(t.Context())
		require.ErrorIs(t, err, ErrBusy)
		w.becomes(id, store.VMRunning)
		for _, r := range waiting {
			<-r.done
			require.NoError(t, r.err)
		}
	})
}

func TestARequestThatIsGivenUpStopsWaitingAndWakesNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		given := errors.New("the client went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		w.guests.spoil(func(g *guests) { g.loadHold = time.Minute })
		r := w.requests(ctx, id, 1)[0]
		w.settles()
		cancel(given)
		<-r.done
		require.ErrorIs(t, r.err, given)
		require.Zero(t, w.vm(id).gate.parked())
		w.becomes(id, store.VMRunning) // the wake that it began goes on
	})
}

// A request may see a SUSPENDED VM, and knock only when somebody else's wake is over.
func TestAKnockThatCameTooLateDoesNotUndoTheNextSuspend(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(idle(hour, hour, true))
		w.guests.spoil(func(g *guests) { g.saveHold = time.Second })
		require.NoError(t, w.Suspend(t.Context(), id))
		(*vm)(w.vm(id)).knocks <- struct{}{}
		w.becomes(id, store.VMSuspended)
		w.passes(time.Minute)
		require.Equal(t, store.VMSuspended, w.row(id).State)
		_, err := w.vm(id).Lease(t.Context())
		require.NoError(t, err, "one that waits is heard")
	})
}

func TestARequestWaitsForALaunchAndForASuspendToEnd(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.launch(idle(hour, hour, true))
		first := w.requests(t.Context(), id, 1)[0]
		<-first.done
		require.NoError(t, first.err)
		require.Equal(t, uint64(1), first.lease.Generation())

		w.guests.spoil(func(g *guests) { g.saveHold = time.Second })
		require.NoError(t, w.Suspend(t.Context(), id))
		second := w.requests(t.Context(), id, 1)[0]
		<-second.done
		require.NoError(t, second.err)
		require.Equal(t, uint64(2), second.lease.Generation())
		_, err := first.lease.Dial(t.Context(), 80)
		require.ErrorIs(t, err, ErrStale)
		conn, err := second.lease.Dial(t.Context(), 80)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	})
}

func TestASuspendDuringAWakeComesAfterItOrIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		w.guests.spoil(func(g *guests) { g.loadHold = time.Second })
		w.requests(t.Context(), id, 1)
		w.settles()
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)

		w.guests.spoil(func(g *guests) { g.loadHold = time.Minute })
		w.requests(t.Context(), id, 1)
		w.settles()
		began := time.Now()
		require.ErrorIs(t, w.Suspend(t.Context(), id), ErrConflict)
		require.Equal(t, patience, time.Since(began))
		require.NoError(t, w.Resume(t.Context(), id), "it is being woken")
		w.becomes(id, store.VMRunning)
	})
}

func TestAResumeDuringALongSuspendIsRefusedInTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.guests.spoil(func(g *guests) { g.saveHold = time.Minute })
		require.NoError(t, w.Suspend(t.Context(), id))
		began := time.Now()
		require.ErrorIs(t, w.Resume(t.Context(), id), ErrConflict)
		require.Equal(t, patience, time.Since(began))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, w.Resume(ctx, id), context.DeadlineExceeded)
		w.becomes(id, store.VMSuspended)
	})
}

func TestAVMThatRunsIsServedEvenIfThatCannotBeRecordedYet(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.records.failing(func(string) error { return errors.New("database is full") })
		id := w.launch(nil)
		lease := w.requests(t.Context(), id, 1)[0]
		<-lease.done
		require.NoError(t, lease.err)
		w.passes(10 * recordRetry)
		require.Equal(t, store.VMPending, w.row(id).State)
		w.records.failing(func(string) error { return nil })
		w.passes(recordRetry)
		require.Equal(t, store.VMRunning, w.row(id).State)
		e := w.lastEvent(id)
		require.Equal(t, "launch", e.Operation)
		require.Len(t, e.Phases, 5)
	})
}

func TestARowThatStayedBehindIsTakenAlongByTheNextChange(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.records.failing(func(to string) error {
			if to == store.VMRunning {
				return errors.New("database is full")
			}
			return nil
		})
		id := w.launch(nil)
		r := w.requests(t.Context(), id, 1)[0]
		<-r.done
		require.NoError(t, r.err)
		require.Equal(t, store.VMPending, w.row(id).State)
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
	})
}
