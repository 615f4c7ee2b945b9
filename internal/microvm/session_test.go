package microvm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
	"github.com/dormouse-dev/dormouse/internal/vmm"
	"github.com/dormouse-dev/dormouse/internal/vmm/vmmtest"
)

// bench is a paused guest with 4 MiB of memory, of which its image has every page filled.
type bench struct {
	*session
	machine    *vmmtest.Machine
	path, disk string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "microvm-1")
	require.NoError(t, os.Mkdir(dir, 0o700))
	b := &bench{path: filepath.Join(dir, "checkpoint"), disk: filepath.Join(dir, "disk.img")}
	require.NoError(t, os.WriteFile(b.disk, []byte("disk"), 0o600))
	memory := filepath.Join(t.TempDir(), "memory")
	require.NoError(t, os.WriteFile(memory, bytes.Repeat([]byte{7}, 4<<20), 0o600))
	b.another(t, memory)
	b.machine.State = bytes.Repeat([]byte("device"), 30_000)
	for i := range b.secret {
		b.secret[i] = byte(i)
	}
	return b
}

// another replaces the machine by a fresh one of the same image.
func (b *bench) another(t *testing.T, memory string) {
	t.Helper()
	b.machine = vmmtest.NewMachine(vmm.Config{Memory: memory, MemoryMiB: 4})
	b.session = &session{machine: b.machine}
	machine := b.machine
	t.Cleanup(func() { _ = machine.Kill() })
}

func TestACheckpointBringsAGuestBackWithItsMemoryDevicesAndSecret(t *testing.T) {
	b := newBench(t)
	memory, err := b.machine.Mapped()
	require.NoError(t, err)
	copy(memory[5*vmm.PageSize:], "changed")
	clear(memory[100*vmm.PageSize : 300*vmm.PageSize])
	want, secret, state := bytes.Clone(memory), b.secret, b.machine.State
	dirty, err := b.checkpointTo(t.Context(), b.path, b.disk)
	require.NoError(t, err)
	require.Equal(t, int64(201*vmm.PageSize), dirty)
	require.NoError(t, b.machine.Kill())

	b.another(t, b.machine.Config.Memory)
	got, err := b.load(t.Context(), origin{checkpoint: b.path})
	require.NoError(t, err)
	require.Equal(t, secret, got)
	require.Equal(t, state, b.machine.Loaded)
	memory, err = b.machine.Mapped()
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, memory))
	require.Equal(t, []string{"Memory", "Load"}, b.machine.Calls(), "pages go in before the device state")
}

func TestACheckpointThatFailsLeavesNothingBehind(t *testing.T) {
	spoilt := errors.New("spoilt")
	for name, c := range map[string]struct {
		spoil func(b *bench)
		want  error
	}{
		"the disk of the host is full": {func(b *bench) { _ = os.Symlink("/dev/full", b.path+".tmp") }, syscall.ENOSPC},
		"the device state fails":       {func(b *bench) { b.machine.Fail = map[string]error{"SaveState": spoilt} }, spoilt},
		"the memory fails":             {func(b *bench) { b.machine.Fail = map[string]error{"Memory": spoilt} }, spoilt},
		"the guest's disk is gone":     {func(b *bench) { _ = os.Remove(b.disk) }, os.ErrNotExist},
		"the VMM is gone":              {func(b *bench) { _ = b.machine.Kill() }, vmm.ErrExited},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			memory, err := b.machine.Mapped()
			require.NoError(t, err)
			memory[0] = 1
			c.spoil(b)
			_, err = b.checkpointTo(t.Context(), b.path, b.disk)
			require.ErrorIs(t, err, c.want)
			require.NoFileExists(t, b.path)
			require.NoFileExists(t, b.path+".tmp")
		})
	}
}

func TestAVMMThatSavesNothingOrTooMuchIsNotBelieved(t *testing.T) {
	b := newBench(t)
	b.machine.State = nil
	_, err := b.checkpointTo(t.Context(), b.path, b.disk)
	require.ErrorContains(t, err, "no device state")
	b.machine.State = make([]byte, snapshot.MaxState+2)
	_, err = b.checkpointTo(t.Context(), b.path, b.disk)
	require.ErrorContains(t, err, "too long")
	require.NoFileExists(t, b.path)
}

func TestAnInterruptedCheckpointStopsAtOnce(t *testing.T) {
	b := newBench(t)
	memory, err := b.machine.Mapped()
	require.NoError(t, err)
	memory[0] = 1
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errClosing)
	_, err = b.checkpointTo(ctx, b.path, b.disk)
	require.ErrorIs(t, err, errClosing)
	require.NoFileExists(t, b.path+".tmp")
}

func TestADamagedCheckpointNeverReachesTheDevices(t *testing.T) {
	b := newBench(t)
	memory, err := b.machine.Mapped()
	require.NoError(t, err)
	memory[0] = 1
	_, err = b.checkpointTo(t.Context(), b.path, b.disk)
	require.NoError(t, err)
	content, err := os.ReadFile(b.path)
	require.NoError(t, err)
	content[len(content)/2] ^= 1
	require.NoError(t, os.WriteFile(b.path, content, 0o600))
	_, err = b.load(t.Context(), origin{checkpoint: b.path})
	require.ErrorIs(t, err, snapshot.ErrDamaged)
	require.NotContains(t, b.machine.Calls(), "Load")
}

func TestAStartThatNeverEndsIsEnded(t *testing.T) {
	for _, step := range []string{"Load", "Network"} {
		t.Run(step, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.driver.Spoil = func(m *vmmtest.Machine) { m.Hang = map[string]bool{step: true} }
				image, err := w.image(w.version)
				require.NoError(t, err)
				began := time.Now()
				disk := filepath.Join(w.dir, "disk.img")
				_, _, err = w.launcher.start(t.Context(), origin{image: image, disk: disk}, telemetry.Begin(w.clock, "queue"))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, startLimit, time.Since(began))
				require.Zero(t, w.driver.Alive())
				left, err := os.ReadDir(w.runsDir())
				require.NoError(t, err)
				require.Empty(t, left)
			})
		})
	}
}

func TestASessionMayBeEndedTwiceAndAtOnce(t *testing.T) {
	b := newBench(t)
	b.run = t.TempDir()
	done := make(chan struct{})
	go func() {
		b.end()
		close(done)
	}()
	b.end()
	<-done
	require.NoDirExists(t, b.run)
}

func TestASlotIsGivenBackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{slots: make(chan struct{}, 1), clock: clockwork.NewRealClock()}
		first, err := m.admit(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(slotLimit)
		synctest.Wait()
		second, err := m.admit(t.Context(), nil)
		require.NoError(t, err)
		first()
		require.Len(t, m.slots, 1, "it is the second one's")
		second()
		require.Empty(t, m.slots)

		closing := make(chan struct{})
		close(closing)
		_, err = m.admit(t.Context(), closing)
		require.ErrorIs(t, err, errClosing)
	})
}

func TestAWaitingVMMGivesItsDiskToALaunch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		image, err := w.image(w.version)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(image.Path(snapshot.DiskFile), []byte("the image's"), 0o600))
		waitingOnes := newPool(w.driver, w.runsDir(), 1, keep, w.clock, w.log)
		defer waitingOnes.close()
		waitingOnes.use(image)
		synctest.Wait()
		waiting := w.driver.Machines()[0]
		disk := filepath.Join(w.dir, "disk.img")
		s, err := (&launcher{pool: waitingOnes}).machine(t.Context(), origin{image: image, disk: disk}, telemetry.Begin(w.clock, "queue"))
		require.NoError(t, err)
		defer s.end()
		require.Same(t, waiting, s.machine)
		require.False(t, s.diskless)
		content, err := os.ReadFile(disk)
		require.NoError(t, err)
		require.Equal(t, "the image's", string(content))
		require.NoFileExists(t, waiting.Config.Data, "no other guest gets it")
	})
}

func TestAResumeBringsItsDiskToAWaitingVMM(t *testing.T) {
	refused := errors.New("no such disk")
	for name, c := range map[string]struct {
		diskless bool
		fail     error
		want     []string
	}{
		"its VMM was started with the disk": {false, refused, []string{"Load", "Memory"}},
		"it waited":                         {true, nil, []string{"AttachData", "Load", "Memory"}},
		"the disk is refused":               {true, refused, []string{"AttachData", "Memory"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			_, err := b.machine.Mapped()
			require.NoError(t, err)
			_, err = b.checkpointTo(t.Context(), b.path, b.disk)
			require.NoError(t, err)
			b.another(t, b.machine.Config.Memory)
			b.diskless, b.machine.Fail = c.diskless, map[string]error{"AttachData": c.fail}
			b.run = t.TempDir()
			spare := prepared{run: b.run}.disk()
			require.NoError(t, os.WriteFile(spare, []byte("the image's"), 0o600))
			_, err = b.load(t.Context(), origin{checkpoint: b.path, disk: b.disk})
			if c.diskless && c.fail != nil {
				require.ErrorIs(t, err, refused)
			} else {
				require.NoError(t, err)
			}
			if c.diskless && c.fail == nil {
				require.NoFileExists(t, spare, "nobody needs it any more")
			} else {
				require.FileExists(t, spare)
			}
			calls := b.machine.Calls()
			slices.Sort(calls) // pages and disk come at the same time
			require.Equal(t, c.want, calls)
		})
	}
}
