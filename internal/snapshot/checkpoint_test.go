package snapshot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// sparseMemory is guest memory too large to hold: only some pages are not zero.
type sparseMemory map[int64]byte // page → what it is filled with

func (m sparseMemory) ReadAt(b []byte, offset int64) (int, error) {
	for at := 0; at < len(b); at += blockSize {
		page := b[at : at+blockSize]
		copy(page, bytes.Repeat([]byte{m[(offset+int64(at))/blockSize]}, blockSize))
	}
	return len(b), nil
}

func (m sparseMemory) WriteAt(b []byte, offset int64) (int, error) {
	for at := 0; at < len(b); at += blockSize {
		m[(offset+int64(at))/blockSize] = b[at]
	}
	return len(b), nil
}

func TestACheckpointHoldsPagesBeyondFourGiB(t *testing.T) {
	const size, edge, far = 32 << 30, 4 << 30 / blockSize, 31 << 30 / blockSize // the latter two are pages
	path := filepath.Join(t.TempDir(), "checkpoint")
	w, err := NewCheckpoint(path, size, nil, []byte("state"))
	require.NoError(t, err)
	memory := sparseMemory{edge - 1: 1, edge: 2, far: 3}
	require.NoError(t, w.Add(memory, Run{edge - 300, 600}))
	require.NoError(t, w.Add(memory, Run{far, 1}))
	require.Equal(t, int64(601*blockSize), w.DirtyBytes)
	require.NoError(t, w.Commit())

	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	restored := sparseMemory{edge + 1: 9, far + 1: 9}
	_, err = LoadCheckpoint(file, size, restored, &bytes.Buffer{})
	require.NoError(t, err)
	for page, want := range map[int64]byte{edge - 2: 0, edge - 1: 1, edge: 2, edge + 1: 0, far: 3, far + 1: 9} {
		require.Equal(t, want, restored[page], "page %d", page)
	}
}

func TestAFullDiskLeavesNoCheckpointAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "checkpoint")
	require.NoError(t, os.Symlink("/dev/full", unfinished(path)))
	w, err := NewCheckpoint(path, 1<<20, nil, []byte("state"))
	require.NoError(t, err, "it is buffered")
	err = w.Commit()
	require.ErrorIs(t, err, syscall.ENOSPC)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestAMemoryThatCannotBeReadStopsTheCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	w, err := NewCheckpoint(path, 1<<20, nil, nil)
	require.NoError(t, err)
	gone := errors.New("the process is gone")
	require.ErrorIs(t, w.Add(unreadable{gone}, Run{0, 1}), gone)
	w.Abort()
	require.NoFileExists(t, unfinished(path))
	require.NoFileExists(t, path)
}

type unreadable struct{ error }

func (u unreadable) ReadAt([]byte, int64) (int, error) { return 0, u.error }

func TestACheckpointThatCannotBeReadNowIsNotCalledDamaged(t *testing.T) {
	cut := errors.New("cut short")
	_, err := LoadCheckpoint(iotest.ErrReader(cut), 1<<20, sparseMemory{}, &bytes.Buffer{})
	require.ErrorIs(t, err, cut)
	require.NotErrorIs(t, err, ErrDamaged)
}

func TestWhatCouldNotBeLoadedIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	_, err := NewCheckpoint(path, 1<<20, nil, make([]byte, MaxState+1))
	require.ErrorContains(t, err, "too long")
	_, err = NewCheckpoint(path, 1<<20, make([]byte, maxNotes+1), nil)
	require.ErrorContains(t, err, "too long")
	require.NoFileExists(t, unfinished(path))
}

func TestWhatACrashLeftOfACheckpointCanBeRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, RemoveUnfinished(path), "there is none")
	_, err := NewCheckpoint(path, 1<<20, nil, nil) // and then the daemon is killed
	require.NoError(t, err)
	require.FileExists(t, unfinished(path))
	require.NoError(t, RemoveUnfinished(path))
	require.NoFileExists(t, unfinished(path))
}
