package snapshot

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// pages is guest memory in a test.
type pages []byte

func (p pages) ReadAt(b []byte, offset int64) (int, error)  { return copy(b, p[offset:]), nil }
func (p pages) WriteAt(b []byte, offset int64) (int, error) { return copy(p[offset:], b), nil }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	source := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(source.Uint32())
	}
	return b
}

// writeCheckpoint makes a checkpoint of dirty pages 1, 2 (zeros), 700 … 1299.
func writeCheckpoint(t testing.TB) (path string, image, memory pages, state []byte) {
	t.Helper()
	image = randomBytes(2000 * blockSize)
	memory = bytes.Clone(image)
	copy(memory[blockSize:], bytes.Repeat([]byte{7}, blockSize))
	clear(memory[2*blockSize : 3*blockSize])
	copy(memory[700*blockSize:1300*blockSize], randomBytes(600 * blockSize)[1:])
	state = randomBytes(150_000)
	path = filepath.Join(t.TempDir(), "checkpoint")
	w, err := NewCheckpoint(path, uint64(len(memory)), []byte("notes"), state)
	require.NoError(t, err)
	require.NoError(t, w.Add(memory, Run{1, 2}))
	require.NoError(t, w.Add(memory, Run{700, 600}))
	require.Equal(t, int64(602*blockSize), w.DirtyBytes)
	require.NoError(t, w.Commit())
	return path, image, memory, state
}

func TestACheckpointTurnsTheImageIntoTheVMAgain(t *testing.T) {
	path, restored, want, state := writeCheckpoint(t)
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	var gotState bytes.Buffer
	notes, err := LoadCheckpoint(file, uint64(len(want)), restored, &gotState)
	require.NoError(t, err)
	require.Equal(t, "notes", string(notes))
	require.True(t, bytes.Equal(want, restored))
	require.True(t, bytes.Equal(state, gotState.Bytes()))

	info, err := file.Stat()
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(len(state)+601*blockSize+4096), "the zero page takes no space")
	require.NoFileExists(t, path+".tmp")
}

func TestADamagedCheckpointIsNeverRestoredAsGood(t *testing.T) {
	path, image, memory, _ := writeCheckpoint(t)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	for name, damage := range map[string]func([]byte) []byte{
		"one bit of a page":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"one bit of state":    func(b []byte) []byte { b[100] ^= 1; return b },
		"cut short":           func(b []byte) []byte { return b[:len(b)-1] },
		"cut in a section":    func(b []byte) []byte { return b[:len(b)/2] },
		"empty":               func([]byte) []byte { return nil },
		"another magic":       func(b []byte) []byte { b[0] = 'X'; return b },
		"another memory size": func(b []byte) []byte { b[8]++; return b },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadCheckpoint(bytes.NewReader(damage(bytes.Clone(good))), uint64(len(memory)), pages(bytes.Clone(image)), &bytes.Buffer{})
			require.ErrorIs(t, err, ErrDamaged)
		})
	}
}

func FuzzLoadCheckpoint(f *testing.F) {
	path, _, _, _ := writeCheckpoint(f)
	good, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(good[:4096])
	f.Add(append([]byte(checkpointMagic), make([]byte, 64)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		memory := make(pages, 16*blockSize)
		_, _ = LoadCheckpoint(bytes.NewReader(data), uint64(len(memory)), memory, &bytes.Buffer{})
	})
}

func sparseFile(t *testing.T, size int64, data map[int64][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse")
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, file.Truncate(size))
	for offset, content := range data {
		_, err := file.WriteAt(content, offset)
		require.NoError(t, err)
	}
	return path
}

func TestCloneCopiesContentAndKeepsHoles(t *testing.T) {
	const size = 64 << 20
	from := sparseFile(t, size, map[int64][]byte{0: randomBytes(9000), 40 << 20: randomBytes(4096), size - 5: []byte("end!!")})
	to := filepath.Join(t.TempDir(), "clone")
	require.NoError(t, Clone(t.Context(), from, to))
	want, err := os.ReadFile(from)
	require.NoError(t, err)
	got, err := os.ReadFile(to)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	allocated, err := Allocated(to)
	require.NoError(t, err)
	require.Less(t, allocated, int64(1<<20))

	require.Error(t, Clone(t.Context(), from, to), "a clone never overwrites a disk")
}

// The builder's snapshot may be on another file system than the data folder. Here /dev/shm is one,
// unless temporary files are there too.
func TestCloneWorksAcrossFileSystems(t *testing.T) {
	from := sparseFile(t, 8<<20, map[int64][]byte{4096: randomBytes(9000), 6 << 20: []byte("end")})
	dir, err := os.MkdirTemp("/dev/shm", "clone-")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	to := filepath.Join(dir, "clone")
	over, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, Clone(over, from, to), context.Canceled)
	require.NoFileExists(t, to)
	require.NoError(t, Clone(t.Context(), from, to))
	want, err := os.ReadFile(from)
	require.NoError(t, err)
	got, err := os.ReadFile(to)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

func TestSealFreesZerosAndNoticesDamage(t *testing.T) {
	dir := t.TempDir()
	machine := Machine{VMM: "qemu 7.2", Kernel: "k", Initramfs: "i", CPUs: 1, MemoryMiB: 16}
	memory := append(randomBytes(blockSize), make([]byte, 8<<20)...)
	memory = append(memory, randomBytes(blockSize)...)
	for name, content := range map[string][]byte{MemoryFile: memory, DiskFile: {1}, RootFile: {2}, StateFile: {3}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	_, err := Open(dir, machine)
	require.ErrorIs(t, err, os.ErrNotExist, "without a manifest it is not a snapshot")

	sealed, err := Seal(dir, Manifest{Machine: machine})
	require.NoError(t, err)
	require.Less(t, sealed.MemoryBytes, int64(1<<20))
	image, err := Open(dir, machine)
	require.NoError(t, err)
	require.NoError(t, image.Verify())
	got, err := os.ReadFile(image.Path(MemoryFile))
	require.NoError(t, err)
	require.True(t, bytes.Equal(memory, got))

	file, err := os.OpenFile(image.Path(MemoryFile), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte{0xff}, 1<<20)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.ErrorContains(t, image.Verify(), "damaged")
}

func TestASnapshotOfAnotherVMMIsRefusedWithWhatToDo(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{MemoryFile, DiskFile, RootFile, StateFile} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	_, err := Seal(dir, Manifest{Machine: Machine{VMM: "qemu 7.2.0"}})
	require.NoError(t, err)
	_, err = Open(dir, Machine{VMM: "qemu 8.0.0"})
	require.ErrorIs(t, err, ErrMismatch)
	require.ErrorContains(t, err, "build the image again")
}
