package microvm

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// Everything at once: whatever the order, every row goes through legal states only, no two guests
// of one microVM run at the same time, and nothing is left.
func TestWhateverComesAtOnceEveryRowTellsAPossibleStory(t *testing.T) {
	inWorldWith(t, func(c *Config) { c.Launching = 3 }, func(t *testing.T, w *world) {
		w.hooks("run", "suspend", "resume", "terminate")
		var ids []string
		for range 5 {
			ids = append(ids, w.launch(idle(time.Minute, 10*time.Minute, true)))
		}
		var users sync.WaitGroup
		for user := range 10 {
			users.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(user)))
				for range 40 {
					id := ids[random.IntN(len(ids))]
					time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
					switch random.IntN(40) {
					case 0:
						_ = w.Terminate(t.Context(), id)
					case 1, 2, 3, 4, 5, 6, 7:
						_ = w.Suspend(t.Context(), id)
					case 8, 9, 10, 11, 12:
						_ = w.Resume(t.Context(), id)
					default:
						if lease, err := w.vm(id).Lease(t.Context()); err == nil {
							lease.Touch()
						}
					}
				}
			})
		}
		users.Wait()
		for _, id := range ids {
			require.NoError(t, w.Terminate(t.Context(), id))
			w.becomes(id, store.VMTerminated)
			state := ""
			for _, e := range w.events(id) {
				require.Equal(t, state, e.From)
				require.True(t, e.From == "" || legal(e.From, e.To), "%s → %s", e.From, e.To)
				state = e.To
			}
			require.Equal(t, store.VMTerminated, state)
			require.Empty(t, w.files(id))
		}
		require.Zero(t, w.guests.alive())
		require.Empty(t, w.slots)
		w.passes(goneFor)
		require.Zero(t, w.door.count())
		require.Empty(t, w.Manager.vms)
		require.Empty(t, w.byAddr)
	})
}

func TestMicroVMsHaveAddressesOfTheirOwnUntilTheyAreGone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first, second := w.row(w.run(nil)), w.row(w.run(nil))
		require.NotEqual(t, first.EndpointAddr, second.EndpointAddr)
		require.NotEqual(t, first.EndpointID, second.EndpointID)
		require.NotContains(t, first.ID, first.EndpointID)
		vm, ok := w.ByAddr(netip.MustParseAddr(second.EndpointAddr))
		require.True(t, ok)
		require.Equal(t, second.ID, vm.ID())
	})
}

func TestWithoutAddressesMicroVMsAreFoundByTheirEndpointAlone(t *testing.T) {
	inWorldWith(t, func(c *Config) { c.NextAddr = nil }, func(t *testing.T, w *world) {
		row := w.row(w.run(nil))
		require.Empty(t, row.EndpointAddr)
		require.Zero(t, w.door.count())
		vm, ok := w.ByEndpoint(row.EndpointID)
		require.True(t, ok)
		require.Equal(t, row.ID, vm.ID())
	})
}

func TestAFullAddressPoolIsALackOfCapacity(t *testing.T) {
	full := func(netip.Addr, func(netip.Addr) bool) (netip.Addr, error) {
		return netip.Addr{}, errors.New("none left")
	}
	inWorldWith(t, func(c *Config) { c.NextAddr = full }, func(t *testing.T, w *world) {
		_, err := w.Run(t.Context(), RunSpec{VM: store.MicroVM{ID: "microvm-1", ImageID: "image-1", ImageVersion: "1.0"}, Version: w.version})
		require.ErrorIs(t, err, ErrCapacity)
	})
}

func TestALaunchOfAnImageThatIsBeingDeletedLeavesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		require.NoError(t, w.store.BeginDeleteImage(t.Context(), "image-1", []string{store.ImageCreated}, store.Event{Subject: "image-1", At: time.Now()}))
		w.ForgetImage("image-1", "1.0")
		_, err := w.Run(t.Context(), RunSpec{VM: store.MicroVM{ID: "microvm-1", AccountID: account, ImageID: "image-1", ImageVersion: "1.0"}, Version: w.version})
		require.ErrorIs(t, err, store.ErrConflict)
		require.Zero(t, w.door.count())
		require.Empty(t, w.Manager.vms)
		require.Empty(t, w.images, "what is forgotten stays forgotten")
		require.NoError(t, os.RemoveAll(ImageDir(w.dir, "image-1", "1.0")))
		_, err = w.Run(t.Context(), RunSpec{VM: store.MicroVM{ID: "microvm-1", AccountID: account, ImageID: "image-1", ImageVersion: "1.0"}, Version: w.version})
		require.ErrorIs(t, err, store.ErrConflict, "also when its files have gone already")
	})
}

func TestASnapshotIsOpenedOnceForAllItsMicroVMs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run(nil)
		kept := w.images[ImageDir(w.dir, "image-1", "1.0")]
		require.NotNil(t, kept)
		id := w.run(nil)
		require.Same(t, kept, w.Manager.vms[id].image)
		w.ForgetImage("image-1", "1.0")
		require.Empty(t, w.images)
	})
}
