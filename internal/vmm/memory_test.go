package vmm

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// mapPrivately maps a fresh file of pages pages into this process, as a VMM maps guest memory.
func mapPrivately(t *testing.T, pages int) (file string, mapping []byte) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "memory")
	require.NoError(t, os.WriteFile(file, make([]byte, pages*PageSize), 0o600))
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	mapping, err = unix.Mmap(int(f.Fd()), 0, pages*PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Munmap(mapping) })
	return file, mapping
}

func TestDirtyListsExactlyThePagesWrittenTo(t *testing.T) {
	file, mapping := mapPrivately(t, 64)
	m, err := OpenMemory(os.Getpid(), file, uint64(len(mapping)))
	require.NoError(t, err)
	defer m.Close()

	_ = mapping[30*PageSize] // reading makes a page present, not dirty
	for _, page := range []int{3, 4, 5, 17, 63} {
		mapping[page*PageSize+7] = 1
	}
	want := []Extent{{3, 3}, {17, 1}, {63, 1}}

	dirty, err := m.Dirty()
	require.NoError(t, err)
	require.Equal(t, want, dirty)

	slow, err := scanEntries(m.pagemap, m.start, m.start+m.size)
	require.NoError(t, err)
	for i := range slow {
		slow[i].Page -= m.start / PageSize
	}
	require.Equal(t, want, slow, "the fallback for kernels before 6.7 agrees")
}

func TestMemoryWritesReachTheProcessAndNeverTheFile(t *testing.T) {
	file, mapping := mapPrivately(t, 8)
	m, err := OpenMemory(os.Getpid(), file, uint64(len(mapping)))
	require.NoError(t, err)
	defer m.Close()

	_, err = m.WriteAt([]byte("dormouse"), 2*PageSize)
	require.NoError(t, err)
	require.Equal(t, "dormouse", string(mapping[2*PageSize:2*PageSize+8]))
	dirty, err := m.Dirty()
	require.NoError(t, err)
	require.Equal(t, []Extent{{2, 1}}, dirty)

	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 8*PageSize), content)
}

func TestMemoryRefusesOffsetsOutsideOfTheGuest(t *testing.T) {
	file, mapping := mapPrivately(t, 2)
	m, err := OpenMemory(os.Getpid(), file, uint64(len(mapping)))
	require.NoError(t, err)
	defer m.Close()
	for _, offset := range []int64{-1, 2*PageSize - 1, 1 << 40} {
		t.Run(fmt.Sprint(offset), func(t *testing.T) {
			_, err := m.WriteAt([]byte{1, 2}, offset)
			require.Error(t, err)
		})
	}
}
