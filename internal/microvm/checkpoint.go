package microvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// checkpointTo writes a paused guest's device state and dirty pages to path. The disk is made
// durable meanwhile: whoever finds the checkpoint must find the disk that belongs to it.
func (s *session) checkpointTo(ctx context.Context, path, disk string) (dirty int64, err error) {
	synced := make(chan error, 1)
	go func() { synced <- syncFile(disk) }()
	writer, err := s.writeCheckpoint(ctx, path)
	if diskErr := <-synced; err == nil && diskErr != nil {
		writer.Abort()
		err = fmt.Errorf("sync the guest's disk: %w", diskErr)
	}
	if err != nil {
		return 0, err
	}
	return writer.DirtyBytes, writer.Commit()
}

// writeCheckpoint reads the dirty pages while the VMM saves its devices' state, which changes none.
func (s *session) writeCheckpoint(ctx context.Context, path string) (*snapshot.CheckpointWriter, error) {
	type saved struct {
		state []byte
		err   error
	}
	saving := make(chan saved, 1)
	go func() {
		state, err := s.deviceState(ctx)
		saving <- saved{state, err}
	}()
	memory, extents, err := s.dirtyMemory()
	var early []byte
	if err == nil {
		defer memory.Close()
		early, err = readEarly(ctx, memory, extents)
	}
	devices := <-saving
	if err := errors.Join(err, devices.err); err != nil {
		return nil, err
	}
	writer, err := snapshot.NewCheckpoint(path, memory.Size(), s.secret[:], devices.state)
	if err != nil {
		return nil, err
	}
	for _, e := range extents {
		pages := readerAtOf(ctx, memory)
		if size := e.Count * vmm.PageSize; size <= uint64(len(early)) {
			pages, early = shifted(early[:size], e.Page*vmm.PageSize), early[size:]
		}
		if err := writer.Add(pages, snapshot.Run{Page: e.Page, Count: e.Count}); err != nil {
			writer.Abort()
			return nil, err
		}
	}
	return writer, nil
}

// dirtyMemory opens guest memory and lists what is dirty in it.
func (s *session) dirtyMemory() (*vmm.Memory, []vmm.Extent, error) {
	memory, err := s.machine.Memory()
	if err != nil {
		return nil, nil, err
	}
	extents, err := memory.Dirty()
	if err != nil {
		memory.Close()
		return nil, nil, err
	}
	return memory, extents, nil
}

// maxEarly bounds what of a guest's dirty memory is held at once, in bytes.
const maxEarly = 32 << 20

// readEarly reads whole extents, from the first on, as far as maxEarly goes.
func readEarly(ctx context.Context, memory io.ReaderAt, extents []vmm.Extent) ([]byte, error) {
	var size uint64
	for i, e := range extents {
		if size += e.Count * vmm.PageSize; size > maxEarly {
			size -= e.Count * vmm.PageSize
			extents = extents[:i]
			break
		}
	}
	pages := make([]byte, size)
	in, rest := readerAtOf(ctx, memory), pages
	for _, e := range extents {
		n := e.Count * vmm.PageSize
		if _, err := in.ReadAt(rest[:n], int64(e.Page*vmm.PageSize)); err != nil {
			return nil, fmt.Errorf("read guest memory: %w", err)
		}
		rest = rest[n:]
	}
	return pages, nil
}

// shifted is pages as they are at an offset of guest memory.
func shifted(pages []byte, at uint64) io.ReaderAt {
	return readAtFunc(func(p []byte, offset int64) (int, error) {
		return copy(p, pages[uint64(offset)-at:]), nil
	})
}

// readFunc and readAtFunc make the reading of many gigabytes end with a context.
type (
	readFunc   func(p []byte) (int, error)
	readAtFunc func(p []byte, offset int64) (int, error)
)

func (f readFunc) Read(p []byte) (int, error)                   { return f(p) }
func (f readAtFunc) ReadAt(p []byte, offset int64) (int, error) { return f(p, offset) }

func readerOf(ctx context.Context, in io.Reader) io.Reader {
	return readFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return in.Read(p)
	})
}

func readerAtOf(ctx context.Context, in io.ReaderAt) io.ReaderAt {
	return readAtFunc(func(p []byte, offset int64) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return in.ReadAt(p, offset)
	})
}

// deviceState has the VMM write its devices' state into memory: the checkpoint holds it.
func (s *session) deviceState(ctx context.Context) ([]byte, error) {
	file, err := anonymousFile("device-state")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// A VMM gets the file for writing only; /proc/self/fd opens the same memory again.
	writeOnly, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the device state: %w", err)
	}
	defer writeOnly.Close()
	if err := s.machine.SaveState(ctx, writeOnly); err != nil {
		return nil, err
	}
	state, err := io.ReadAll(io.LimitReader(file, snapshot.MaxState+1)) // a writer refuses more
	if err != nil {
		return nil, fmt.Errorf("read the device state: %w", err)
	}
	if len(state) == 0 {
		return nil, errors.New("the VMM saved no device state")
	}
	return state, nil
}

func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.Fdatasync(int(file.Fd()))
}

// anonymousFile is a file in memory that can be passed to a VMM.
func anonymousFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
