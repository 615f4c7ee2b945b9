package microvm

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/vmm/vmmtest"
)

const keep = 5 * time.Minute

// testPool is a pool, and two images to use it for.
type testPool struct {
	*pool
	a, b *snapshot.Image
}

// inPool runs a test with a pool in a bubble. In the end nothing of it is left.
func inPool(t *testing.T, size int, test func(t *testing.T, p *testPool, d *vmmtest.Driver)) {
	synctest.Test(t, func(t *testing.T) {
		d, runs := &vmmtest.Driver{}, t.TempDir()
		p := &testPool{newPool(d, runs, size, keep, clockwork.NewRealClock(), slog.New(slog.DiscardHandler)), imageWithDisk(t), imageWithDisk(t)}
		defer func() {
			p.close()
			require.Zero(t, d.Alive())
			left, err := os.ReadDir(runs)
			require.NoError(t, err)
			require.Empty(t, left)
		}()
		test(t, p, d)
	})
}

func imageWithDisk(t *testing.T) *snapshot.Image {
	t.Helper()
	image := &snapshot.Image{Dir: t.TempDir()}
	require.NoError(t, os.WriteFile(image.Path(snapshot.DiskFile), []byte("disk"), 0o600))
	return image
}

// take takes a process, or starts one as a launch does that finds none.
func take(t *testing.T, p *testPool, image *snapshot.Image) prepared {
	t.Helper()
	taken, ok := p.take(image)
	if ok {
		require.FileExists(t, taken.disk())
		return taken
	}
	taken, err := p.start(t.Context(), image, filepath.Join(t.TempDir(), "disk.img"))
	require.NoError(t, err)
	return taken
}

func TestAnImageInUseHasProcessesWaiting(t *testing.T) {
	inPool(t, 2, func(t *testing.T, p *testPool, d *vmmtest.Driver) {
		p.use(p.a)
		synctest.Wait()
		require.Equal(t, 2, d.Alive())
		first, second := take(t, p, p.a), take(t, p, p.a)
		require.NotSame(t, first.machine, second.machine)
		require.Len(t, d.Machines(), 2, "none had to be started")
		other := take(t, p, p.b)
		require.Len(t, d.Machines(), 3, "those of one image do not serve another")
		p.use(p.a)
		synctest.Wait()
		require.Equal(t, 5, d.Alive(), "topped up")
		for _, taken := range []prepared{first, second, other} {
			taken.discard()
		}
	})
}

func TestProcessesOfAnImageThatIsNotUsedAnyMoreEnd(t *testing.T) {
	inPool(t, 1, func(t *testing.T, p *testPool, d *vmmtest.Driver) {
		p.use(p.a)
		time.Sleep(keep - time.Second)
		p.use(p.a)
		time.Sleep(keep - time.Second)
		synctest.Wait()
		require.Equal(t, 1, d.Alive(), "it was used again")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Zero(t, d.Alive())
	})
}

func TestAnExpiryThatCameTooLateEndsNothing(t *testing.T) {
	inPool(t, 1, func(t *testing.T, p *testPool, d *vmmtest.Driver) {
		p.use(p.a)
		synctest.Wait()
		s, uses := p.stocks[p.a.Dir], p.stocks[p.a.Dir].uses
		p.use(p.a)
		p.expire(p.a.Dir, s, uses) // its timer had fired and it waited for the lock
		require.Equal(t, 1, d.Alive())
	})
}

func TestAProcessThatDiedWhileItWaitedIsNotHandedOut(t *testing.T) {
	inPool(t, 2, func(t *testing.T, p *testPool, d *vmmtest.Driver) {
		p.use(p.a)
		synctest.Wait()
		for _, m := range d.Machines() {
			require.NoError(t, m.Kill())
		}
		taken := take(t, p, p.a)
		require.False(t, isClosed(taken.machine.Done()))
		taken.discard()
	})
}

func TestAProcessThatCannotBePreparedIsTriedAgainWithTheNextUse(t *testing.T) {
	inPool(t, 1, func(t *testing.T, p *testPool, d *vmmtest.Driver) {
		var tries atomic.Int32
		d.PrepareError = func() error {
			if tries.Add(1) == 1 {
				return errors.New("no memory")
			}
			return nil
		}
		p.use(p.a)
		synctest.Wait()
		require.Zero(t, d.Alive())
		p.use(p.a)
		synctest.Wait()
		require.Equal(t, 1, d.Alive())
	})
}

func TestAForgottenImageHasNoProcesses(t *testing.T) {
	inPool(t, 1, func(t *testing.T, p *testPool, d *vmmtest.Driver) {
		p.use(p.a)
		p.forget(p.a.Dir) // perhaps while one is being started
		synctest.Wait()
		require.Zero(t, d.Alive())
		p.forget(p.a.Dir)
		p.use(p.a)
		synctest.Wait()
		require.Equal(t, 1, d.Alive())
	})
}

func TestAClosedPoolStartsNothingAheadOfTime(t *testing.T) {
	inPool(t, 1, func(t *testing.T, p *testPool, d *vmmtest.Driver) {
		p.use(p.a)
		p.close()
		require.Zero(t, d.Alive())
		p.use(p.a)
		synctest.Wait()
		require.Zero(t, d.Alive())
		taken := take(t, p, p.a)
		taken.discard()
	})
}

func TestWithoutAPoolProcessesAreStartedWhenTheyAreNeeded(t *testing.T) {
	inPool(t, 0, func(t *testing.T, p *testPool, d *vmmtest.Driver) {
		p.use(p.a)
		synctest.Wait()
		require.Empty(t, d.Machines())
		taken := take(t, p, p.a)
		taken.discard()
	})
}

func TestThePoolNeitherLosesNorSharesProcesses(t *testing.T) {
	inPool(t, 3, func(t *testing.T, p *testPool, d *vmmtest.Driver) {
		var mu sync.Mutex
		seen := map[prepared]bool{}
		var users sync.WaitGroup
		for i := range 8 {
			users.Go(func() {
				for j := range 40 {
					image := p.a
					if i%2 == 1 {
						image = p.b
					}
					p.use(image)
					taken := take(t, p, image)
					mu.Lock()
					require.False(t, seen[taken])
					seen[taken] = true
					mu.Unlock()
					if j%7 == i {
						p.forget(image.Dir)
					}
					taken.discard()
				}
			})
		}
		users.Wait()
	})
}
