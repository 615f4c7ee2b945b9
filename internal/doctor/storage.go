package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	gib       = 1 << 30  // bytes
	needSpace = 2 * gib  // one small image and its build
	wantSpace = 10 * gib // a few of them
)

// existing is the folder itself, or the nearest one above it that is there already.
func existing(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(dir)
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir, err
		}
		dir = filepath.Dir(dir)
	}
}

// freeSpace is what an ordinary user may still write where dir is, in bytes.
func freeSpace(dir string) (uint64, error) {
	dir, err := existing(dir)
	if err != nil {
		return 0, err
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return s.Bavail * uint64(s.Bsize), nil
}

func spaceFinding(free uint64, err error) Finding {
	f := Finding{Name: "disk space", Status: OK, Detail: fmt.Sprintf("%.1f GiB free for the data folder", float64(free)/gib)}
	switch {
	case err != nil:
		f.Status, f.Detail, f.Fix = Fail, err.Error(), "name a data folder that can be read (--data-dir)"
	case free < needSpace:
		f.Status, f.Fix = Fail, fmt.Sprintf("make room: at least %d GiB, better %d GiB", needSpace/gib, wantSpace/gib)
	case free < wantSpace:
		f.Status, f.Fix = Warn, fmt.Sprintf("make room: %d GiB are comfortable", wantSpace/gib)
	}
	return f
}

// tryReflink clones a file where dir is, and leaves nothing behind.
func tryReflink(dir string) error {
	dir, err := existing(dir)
	if err != nil {
		return err
	}
	dir, err = os.MkdirTemp(dir, ".doctor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "source")
	if err := os.WriteFile(source, make([]byte, os.Getpagesize()), 0o600); err != nil {
		return err
	}
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(filepath.Join(dir, "clone"))
	if err != nil {
		return err
	}
	defer to.Close()
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
}

func reflinkFinding(err error) Finding {
	f := Finding{Name: "reflink", Status: OK, Detail: "the data folder's file system clones files"}
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS):
		f.Status, f.Detail, f.Fix = Fail, fmt.Sprintf("the data folder cannot be written: %v", err), "name a data folder that can be written (--data-dir)"
	case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EXDEV):
		f.Status, f.Detail = Warn, "the data folder's file system cannot clone files; disks are copied, holes left out"
		f.Fix = "for faster launches, put the data folder on XFS or Btrfs"
	default:
		f.Status, f.Detail = Warn, fmt.Sprintf("could not be tried: %v", err)
	}
	return f
}
