package artifact

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const targetBytes = 4095 // PATH_MAX of Linux without its final zero

// unpacker writes checked entries below root; os.Root refuses whatever would leave it.
type unpacker struct {
	root      *os.Root
	fileLimit int64 // bytes of one file
	left      int64 // bytes all files may still have
}

// unpack writes folders and files first and symbolic links after them, so that no entry is ever
// written through a link; modes and times of folders come last, because writing changes them.
func (u *unpacker) unpack(ctx context.Context, entries []entry) error {
	var links, folders []entry
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("unpack code artifact: %w", err)
		}
		switch e.mode.Type() {
		case fs.ModeSymlink:
			links = append(links, e)
		case fs.ModeDir:
			if err := u.makeFolder(e.name); err != nil {
				return err
			}
			folders = append(folders, e)
		default:
			if err := u.writeFile(ctx, e); err != nil {
				return err
			}
		}
	}
	for _, e := range links {
		if err := u.link(e); err != nil {
			return err
		}
	}
	for _, e := range links {
		if err := u.checkTarget(e); err != nil {
			return err
		}
	}
	for i := len(folders) - 1; i >= 0; i-- {
		if err := u.finish(folders[i], 0o700, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) makeFolder(name string) error {
	if err := u.root.MkdirAll(name, 0o755); err != nil {
		return writeError(name, err)
	}
	return nil
}

func (u *unpacker) writeFile(ctx context.Context, e entry) error {
	if err := u.makeFolder(path.Dir(e.name)); err != nil {
		return err
	}
	content, err := e.file.Open()
	if err != nil {
		return readError(e.name, err)
	}
	defer content.Close()
	out, err := u.root.OpenFile(e.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return writeError(e.name, err)
	}
	if err := u.copy(ctx, out, content, e.name); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return writeError(e.name, err)
	}
	return u.finish(e, 0o600, 0o644)
}

// copy counts what really comes out of the archive: a size in a header is the bomb's own word.
func (u *unpacker) copy(ctx context.Context, out io.Writer, content io.Reader, name string) error {
	buffer := make([]byte, 128<<10)
	for written := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("unpack code artifact: %w", err)
		}
		n, readErr := content.Read(buffer)
		written += int64(n)
		if u.left -= int64(n); u.left < 0 {
			return invalid(nil, "it unpacks to more bytes than are allowed")
		}
		if written > u.fileLimit {
			return invalid(nil, "the entry %q unpacks to more than %d bytes", name, u.fileLimit)
		}
		if _, err := out.Write(buffer[:n]); err != nil {
			return writeError(name, err)
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return readError(name, readErr)
		}
	}
}

// finish sets permissions and time. least are the bits the daemon itself needs to read the file;
// usual replaces permissions that the archiving tool did not record.
func (u *unpacker) finish(e entry, least, usual fs.FileMode) error {
	perm := e.mode.Perm() | least
	if e.mode.Perm() == 0 {
		perm = usual
	}
	if err := u.root.Chmod(e.name, perm); err != nil {
		return writeError(e.name, err)
	}
	if err := u.root.Chtimes(e.name, time.Time{}, e.file.Modified); err != nil {
		return writeError(e.name, err)
	}
	return nil
}

func (u *unpacker) link(e entry) error {
	content, err := e.file.Open()
	if err != nil {
		return readError(e.name, err)
	}
	defer content.Close()
	raw, err := io.ReadAll(io.LimitReader(content, targetBytes+1))
	if err != nil {
		return readError(e.name, err)
	}
	target := string(raw)
	inside := filepath.IsLocal(path.Join(path.Dir(e.name), target)) && !path.IsAbs(target)
	if target == "" || len(target) > targetBytes || strings.ContainsRune(target, 0) || !inside {
		return leadsOutside(e.name, nil)
	}
	if err := u.makeFolder(path.Dir(e.name)); err != nil {
		return err
	}
	if err := u.root.Symlink(target, e.name); err != nil {
		return writeError(e.name, err)
	}
	return nil
}

// checkTarget follows a link as the kernel would: a target that looks inside can still lead
// outside through other links. A target that does not exist is allowed.
func (u *unpacker) checkTarget(e entry) error {
	_, err := u.root.Stat(e.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return leadsOutside(e.name, err)
	}
	return nil
}

func leadsOutside(name string, cause error) error {
	return invalid(cause, "the symbolic link %q leads outside the archive", name)
}

func readError(name string, err error) error {
	if errors.Is(err, zip.ErrAlgorithm) {
		return invalid(err, "the entry %q is compressed with a method other than deflate", name)
	}
	return invalid(err, "the entry %q is damaged", name)
}

// writeError blames the archive when its entries contradict each other (a file that is a folder
// elsewhere, a folder that is a link), and the host otherwise.
func writeError(name string, err error) error {
	for _, contradiction := range []error{fs.ErrExist, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP} {
		if errors.Is(err, contradiction) {
			return invalid(err, "the entry %q contradicts another entry", name)
		}
	}
	return fmt.Errorf("unpack %q: %w", name, err)
}
