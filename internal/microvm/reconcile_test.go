package microvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/vmm"
	"github.com/dormouse-dev/dormouse/internal/vmm/vmmtest"
)

// relic is what an earlier daemon left of one microVM.
type relic struct {
	left
	id      string
	machine *vmmtest.Machine
	run     string
}

func (l left) String() string {
	return fmt.Sprintf("%s, checkpoint %v, resuming %v, VMM %s", l.state, l.checkpoint, l.resuming, [...]string{"gone", "paused", "moving"}[l.vmm])
}

// leave makes what an earlier daemon left. The present one must not know of it.
func (w *world) leave(l left) *relic { return w.leaveOf(l, "1.0") }

func (w *world) leaveOf(l left, version string) *relic {
	w.t.Helper()
	w.vms++
	r := &relic{left: l, id: fmt.Sprintf("microvm-%d", w.vms)}
	rec := store.MicroVM{
		ID: r.id, AccountID: account, Region: "us-east-1", ImageID: "image-1", ImageVersion: version, State: l.state,
		EndpointID: uuid.NewString(), EndpointAddr: fmt.Sprintf("127.64.1.%d", w.vms), StartedAt: time.Now(), MaximumDuration: 8 * hour,
		Idle: &store.IdlePolicy{MaxIdle: hour, MaxSuspended: hour, AutoResume: true},
	}
	if l.state == store.VMSuspended {
		rec.SuspendedAt = time.Now()
	}
	if l.state == store.VMTerminating {
		rec.StateReason = reasonLifetime
	}
	require.NoError(w.t, w.store.InsertMicroVM(w.t.Context(), rec, nil, store.Event{Subject: r.id, At: time.Now()}))
	dir := filepath.Join(w.vmsDir(), r.id)
	require.NoError(w.t, os.Mkdir(dir, 0o700))
	files := map[string]bool{"disk.img": true, "checkpoint": l.checkpoint, "checkpoint.resuming": l.resuming, "checkpoint.tmp": true}
	for name, wanted := range files {
		if wanted {
			require.NoError(w.t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
		}
	}
	if l.vmm != gone {
		r.run, r.machine = w.leaveVMM(r.id, l.vmm)
	}
	return r
}

func (w *world) leaveVMM(owner string, state vmmState) (string, *vmmtest.Machine) {
	w.t.Helper()
	run, err := newRun(w.runsDir())
	require.NoError(w.t, err)
	secret := make([]byte, guest.SecretSize)
	require.NoError(w.t, writeOwner(run, ownership{MicroVM: owner, Secret: secret, Before: secret}))
	machine := w.driver.Leave(run, vmmtest.NewMachine(vmm.Config{Dir: run}))
	if state == moving {
		require.NoError(w.t, machine.Resume(w.t.Context()))
	}
	return run, machine
}

// inRuins runs a test in a world whose first daemon has ended; open starts the next.
func inRuins(t *testing.T, test func(t *testing.T, w *world)) {
	inWorld(t, func(t *testing.T, w *world) {
		require.NoError(t, w.Shutdown(t.Context()))
		test(t, w)
	})
}

func everyRelic() (all []left) {
	for _, state := range []string{store.VMPending, store.VMRunning, store.VMSuspending, store.VMSuspended, store.VMTerminating} {
		for _, checkpoint := range []bool{false, true} {
			for _, resuming := range []bool{false, true} {
				for _, vmm := range []vmmState{gone, paused, moving} {
					all = append(all, left{state, checkpoint, resuming, vmm})
				}
			}
		}
	}
	return all
}

func TestWhatBecomesOfAMicroVMFollowsFromWhatIsLeftOfIt(t *testing.T) {
	// By checkpoint, resuming and VMM, for SUSPENDING and SUSPENDED alike.
	asleep := map[string]fate{
		"false false gone": ends, "false false paused": wakes, "false false moving": wakes,
		"false true gone": ends, "false true paused": sleeps, "false true moving": wakes,
		"true false gone": sleeps, "true false paused": sleeps, "true false moving": wakes,
		"true true gone": sleeps, "true true paused": sleeps, "true true moving": wakes,
	}
	for _, l := range everyRelic() {
		got, reason := fateOf(l)
		switch {
		case l.state == store.VMPending:
			require.Equal(t, ends, got, l)
			require.Equal(t, reasonInterrupted, reason, l)
		case l.state == store.VMTerminating:
			require.Equal(t, ends, got, l)
		case l.state == store.VMRunning && l.vmm == gone:
			require.Equal(t, ends, got, l)
			require.Equal(t, reasonVMMDied, reason, l)
		case l.state == store.VMRunning:
			require.Equal(t, wakes, got, l)
		default:
			key := fmt.Sprintf("%v %v %s", l.checkpoint, l.resuming, [...]string{"gone", "paused", "moving"}[l.vmm])
			require.Equal(t, asleep[key], got, l)
			if got == ends {
				require.Equal(t, reasonLost, reason, l)
			}
		}
	}
}

func TestARestartMakesEveryRowTrue(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		var relics []*relic
		for _, l := range everyRelic() {
			relics = append(relics, w.leave(l))
		}
		w.open()
		w.passes(time.Second)
		for _, r := range relics {
			decided, reason := fateOf(r.left)
			rec := w.row(r.id)
			alive := r.machine != nil && !isClosed(r.machine.Done())
			switch decided {
			case ends:
				require.Equal(t, store.VMTerminated, rec.State, r)
				if r.state == store.VMTerminating {
					reason = reasonLifetime
				}
				require.Equal(t, reason, rec.StateReason, r)
				require.Empty(t, w.files(r.id), r)
				require.False(t, alive, r)
			case sleeps:
				require.Equal(t, store.VMSuspended, rec.State, r)
				require.False(t, rec.SuspendedAt.IsZero(), r)
				require.Equal(t, []string{"checkpoint", "disk.img"}, w.files(r.id), r)
				require.False(t, alive, r)
				_, err := w.vm(r.id).Lease(t.Context())
				require.NoError(t, err, r)
			case wakes:
				require.Equal(t, store.VMRunning, rec.State, r)
				require.True(t, rec.SuspendedAt.IsZero(), r)
				require.Equal(t, []string{"disk.img"}, w.files(r.id), r)
				require.True(t, alive, r)
				_, err := w.vm(r.id).Lease(t.Context())
				require.NoError(t, err, r)
			}
			if !alive && r.run != "" {
				require.NoDirExists(t, r.run, r)
			}
		}
		for _, r := range relics {
			if r.machine != nil {
				require.NoError(t, r.machine.Kill())
			}
		}
	})
}

func TestWhatBelongsToNobodyIsRemoved(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		_, helper := w.leaveVMM("", moving)
		_, stranger := w.leaveVMM("microvm-unknown", moving)
		run, unreadable := w.leaveVMM("x", moving)
		require.NoError(t, os.WriteFile(filepath.Join(run, ownerFile), []byte(`{"microvm": "x", "secret": "AA=="}`), 0o600))
		require.NoError(t, os.MkdirAll(filepath.Join(w.vmsDir(), "microvm-unknown"), 0o700))
		require.NoError(t, os.MkdirAll(filepath.Join(w.runsDir(), "builder-7"), 0o700))
		w.open()
		for _, m := range []*vmmtest.Machine{helper, stranger, unreadable} {
			require.True(t, isClosed(m.Done()))
		}
		for _, dir := range []string{w.vmsDir(), w.runsDir()} {
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries)
		}
	})
}

func TestOfTwoVMMsOfOneMicroVMTheOneThatRunsCounts(t *testing.T) {
	for _, order := range [][]vmmState{{moving, paused}, {paused, moving}} {
		inRuins(t, func(t *testing.T, w *world) {
			r := w.leave(left{state: store.VMSuspended, resuming: true})
			machines := map[vmmState]*vmmtest.Machine{}
			for _, state := range order {
				_, machines[state] = w.leaveVMM(r.id, state)
			}
			w.open()
			w.becomes(r.id, store.VMRunning)
			require.True(t, isClosed(machines[paused].Done()))
			require.False(t, isClosed(machines[moving].Done()))
			require.NoError(t, machines[moving].Kill())
		})
	}
}

func TestAGuestThatMayHaveBeenToldToSleepIsToldThatItWokeUp(t *testing.T) {
	for state, calls := range map[string][]string{store.VMRunning: {"adopt"}, store.VMSuspending: {"adopt", "hook resume"}} {
		inRuins(t, func(t *testing.T, w *world) {
			w.hooks("resume")
			r := w.leave(left{state: state, vmm: paused})
			w.open()
			w.becomes(r.id, store.VMRunning)
			w.settles()
			require.Equal(t, calls, w.guests.said())
			require.NoError(t, r.machine.Kill())
		})
	}
}

func TestAGuestThatCannotBeAdoptedEndsItsMicroVM(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		r := w.leave(left{state: store.VMRunning, vmm: moving})
		w.openWith(func(g *guests) { g.adoptErr = errors.New("no answer") })
		rec := w.becomes(r.id, store.VMTerminated)
		require.Equal(t, reasonNotAdopted, rec.StateReason)
		require.True(t, isClosed(r.machine.Done()))
	})
}

func TestStartWaitsForNoGuestAndSlowOnesCanBeTerminated(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		r := w.leave(left{state: store.VMRunning, vmm: moving})
		began := time.Now()
		w.openWith(func(g *guests) { g.loadHold = hour })
		require.Zero(t, time.Since(began))
		waiting := w.requests(t.Context(), r.id, 1)[0]
		w.passes(time.Second)
		require.NoError(t, w.Terminate(t.Context(), r.id))
		<-waiting.done
		require.ErrorIs(t, waiting.err, ErrGone)
		require.Equal(t, reasonSuccess, w.becomes(r.id, store.VMTerminated).StateReason)
		require.True(t, isClosed(r.machine.Done()))
	})
}

func TestAVMMThatDoesNotAnswerHoldsUpAStartOnlyForAWhile(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		mute := w.leave(left{state: store.VMRunning, vmm: moving})
		mute.machine.Hang = map[string]bool{"Paused": true}
		good := w.leave(left{state: store.VMRunning, vmm: moving})
		began := time.Now()
		w.open()
		require.Equal(t, adoptLimit, time.Since(began))
		require.Equal(t, reasonVMMDied, w.becomes(mute.id, store.VMTerminated).StateReason)
		w.becomes(good.id, store.VMRunning)
		require.NoError(t, good.machine.Kill())
	})
}

func TestWithoutItsImageARunningVMEndsAndASuspendedOneWaits(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		awake := w.leave(left{state: store.VMRunning, vmm: moving})
		asleep := w.leave(left{state: store.VMSuspended, checkpoint: true})
		manifest := filepath.Join(ImageDir(w.dir, "image-1", "1.0"), "manifest.json")
		require.NoError(t, os.Rename(manifest, manifest+".away"))
		w.open()
		require.Equal(t, reasonImage, w.becomes(awake.id, store.VMTerminated).StateReason)
		require.True(t, isClosed(awake.machine.Done()))
		_, err := w.vm(asleep.id).Lease(t.Context())
		require.ErrorIs(t, err, ErrWakeFailed)
		require.Equal(t, []string{"checkpoint", "disk.img"}, w.files(asleep.id))

		require.NoError(t, os.Rename(manifest+".away", manifest))
		_, err = w.vm(asleep.id).Lease(t.Context())
		require.NoError(t, err)
	})
}

func TestASuspendedVMOutlivesAnotherVMMVersion(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		r := w.leave(left{state: store.VMSuspended, checkpoint: true})
		w.config = func(c *Config) { c.Present = snapshot.Machine{VMM: "vmmtest 2"} }
		w.open()
		_, err := w.vm(r.id).Lease(t.Context())
		require.ErrorIs(t, err, snapshot.ErrMismatch)
		require.Equal(t, store.VMSuspended, w.row(r.id).State)
		require.NoError(t, w.Shutdown(t.Context()))
		w.config = func(*Config) {}
		w.open()
		_, err = w.vm(r.id).Lease(t.Context())
		require.NoError(t, err)
	})
}

func TestOneMicroVMWithoutAVersionDoesNotKeepTheOthersFromStarting(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		ctx, image := t.Context(), w.version.ImageID
		b := store.Build{ID: "build-2", ImageID: image, State: store.BuildSuccessful, EndedAt: time.Now()}
		v, _, err := w.store.AddVersion(ctx, []string{store.ImageCreated}, w.version, b, nil, store.Event{Subject: image})
		require.NoError(t, err)
		bad := w.leaveOf(left{state: store.VMSuspended, checkpoint: true}, v.Version)
		require.NoError(t, w.store.ChangeImage(ctx, store.ImageChange{ImageID: image, Version: v.Version, VersionState: store.VersionDeleting}))
		require.NoError(t, w.store.DeleteVersion(ctx, image, v.Version, store.Event{Subject: image}))
		good := w.leave(left{state: store.VMSuspended, checkpoint: true})
		w.open()
		require.Equal(t, reasonImage, w.becomes(bad.id, store.VMTerminated).StateReason)
		_, err = w.vm(good.id).Lease(t.Context())
		require.NoError(t, err)
	})
}

func TestAnEndpointThatCannotBeOpenedAgainCostsNoState(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		r := w.leave(left{state: store.VMSuspended, checkpoint: true})
		w.doorRefuses = true
		w.open()
		require.NoError(t, w.Resume(t.Context(), r.id))
		w.becomes(r.id, store.VMRunning)
	})
}

func TestADatabaseThatCannotBeReadKeepsTheDaemonFromStarting(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorContains(t, w.Start(over, w.door), "reconcile")
	})
}

func TestAStartThatIsCutShortEndsNothing(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		awake := w.leave(left{state: store.VMRunning, vmm: moving})
		asleep := w.leave(left{state: store.VMSuspended, checkpoint: true})
		ctx, cancel := context.WithCancel(t.Context())
		w.records.live = cancel
		require.ErrorIs(t, w.Start(ctx, w.door), context.Canceled)
		require.False(t, isClosed(awake.machine.Done()))
		w.open()
		w.becomes(awake.id, store.VMRunning)
		_, err := w.vm(asleep.id).Lease(t.Context())
		require.NoError(t, err)
		require.NoError(t, awake.machine.Kill())
	})
}

func TestAnAdoptedVMGoesOnAsAnyOther(t *testing.T) {
	inRuins(t, func(t *testing.T, w *world) {
		r := w.leave(left{state: store.VMRunning, vmm: moving})
		w.open()
		w.settles()
		require.NoError(t, w.Suspend(t.Context(), r.id))
		w.becomes(r.id, store.VMSuspended)
		require.True(t, slices.Contains(w.guests.said(), "checkpoint"))
		_, err := w.vm(r.id).Lease(t.Context())
		require.NoError(t, err)
		require.NoError(t, r.machine.Kill())
	})
}
