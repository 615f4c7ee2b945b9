package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// blockSize is the unit in which zeros are looked for: a guest page and a file system block, in bytes.
const blockSize = 4096

// eachData calls f for every block in the data extents of a sparse file, in order.
// The block is only valid during the call; the last one of the file may be shorter.
func eachData(file *os.File, f func(offset int64, block []byte) error) error {
	buffer := make([]byte, 256*blockSize)
	return eachExtent(file, func(start, end int64) error {
		for offset := start; offset < end; {
			n, err := file.ReadAt(buffer[:min(int64(len(buffer)), end-offset)], offset)
			if err != nil && err != io.EOF {
				return err
			}
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
			for at := 0; at < n; at += blockSize {
				if err := f(offset+int64(at), buffer[at:min(at+blockSize, n)]); err != nil {
					return err
				}
			}
			offset += int64(n)
		}
		return nil
	})
}

// eachExtent calls f for every data extent of a sparse file.
func eachExtent(file *os.File, f func(start, end int64) error) error {
	fd := int(file.Fd())
	for end := int64(0); ; {
		start, err := unix.Seek(fd, end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // no data behind this
		}
		if err != nil {
			return fmt.Errorf("find data: %w", err)
		}
		if end, err = unix.Seek(fd, start, unix.SEEK_HOLE); err != nil {
			return fmt.Errorf("find a hole: %w", err)
		}
		if err := f(start, end); err != nil {
			return err
		}
	}
}

func isZero(block []byte) bool {
	// The first half decides almost always; comparing a slice with itself shifted by one is
	// memcmp, which is vectorised.
	return len(block) == 0 || block[0] == 0 && string(block[1:]) == string(block[:len(block)-1])
}

// punchZeros gives the space of zero blocks back to the file system.
func punchZeros(file *os.File) error {
	var start, end int64 // run of zero blocks
	punch := func() error {
		if start == end {
			return nil
		}
		err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, start, end-start)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil // the file stays bigger than it needs to be
		}
		return err
	}
	err := eachData(file, func(offset int64, block []byte) error {
		if !isZero(block) {
			return nil
		}
		if offset != end {
			if err := punch(); err != nil {
				return err
			}
			start = offset
		}
		end = offset + int64(len(block))
		return nil
	})
	if err == nil {
		err = punch()
	}
	if err != nil {
		return fmt.Errorf("free zero blocks: %w", err)
	}
	return nil
}

// Clone copies a sparse file: by reference where the file system can share blocks (btrfs, XFS),
// else its data extents only. The copy is not synced: it is worth nothing without its VM, and
// a suspend syncs it. When ctx ends before the copying does, nothing is left of the copy.
func Clone(ctx context.Context, from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("clone the disk: %w", err)
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("clone the disk: %w", err)
	}
	defer target.Close()
	if unix.IoctlFileClone(int(target.Fd()), int(source.Fd())) == nil {
		return nil
	}
	if err := copyExtents(ctx, source, target); err != nil {
		os.Remove(to)
		return fmt.Errorf("clone the disk: %w", err)
	}
	return nil
}

// copyStep is how many bytes are copied before it is asked whether to go on.
const copyStep = 64 << 20

func copyExtents(ctx context.Context, source, target *os.File) error {
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if err := target.Truncate(info.Size()); err != nil {
		return err
	}
	return eachExtent(source, func(start, end int64) error {
		for _, file := range []*os.File{source, target} {
			if _, err := file.Seek(start, io.SeekStart); err != nil {
				return err
			}
		}
		for ; start < end; start += copyStep {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			// Within one file system this is copy_file_range(2), which copies nothing through the daemon.
			if _, err := io.CopyN(target, source, min(copyStep, end-start)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Allocated is what a file takes on disk, in bytes.
func Allocated(path string) (int64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, fmt.Errorf("size of %s: %w", path, err)
	}
	return stat.Blocks * 512, nil
}

// WriteFile replaces a small file so that a crash leaves the old or the new content, mode 0600.
func WriteFile(path string, content []byte) error {
	temporary := path + ".tmp"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes renames in a folder durable.
func SyncDir(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
