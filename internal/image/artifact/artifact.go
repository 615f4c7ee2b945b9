// Package artifact unpacks the code artifact of an image, a zip made by a stranger, into a build context.
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
)

// Limits bound what an archive may unpack to. What an archive says of itself is never believed:
// bytes are counted as they are written.
type Limits struct {
	Entries        int
	DirectoryBytes int64 // the zip's central directory, which is read into memory
	FileBytes      int64 // one file, unpacked
	TotalBytes     int64 // all files, unpacked
	NameBytes      int   // a path in the archive
	Depth          int   // folders in a path
}

// DefaultLimits leave room for large contexts (a node_modules folder has some ten thousand short
// files) and fit into the smallest disk of a microVM, 8 GB (spec/behaviour.md 4.3).
var DefaultLimits = Limits{
	Entries:        100_000,
	DirectoryBytes: 16 << 20,
	FileBytes:      4 << 30,
	TotalBytes:     6 << 30,
	NameBytes:      1024,
	Depth:          100,
}

const dockerfile = "Dockerfile"

// Unpack checks the zip at archive and unpacks it into dir, which it makes and which must not
// exist yet. What goes wrong with the archive is an *Error; what remains in dir after any error
// is for the caller to remove. Permission bits and modification times are kept; setuid, setgid
// and sticky bits are not, because the files lie on the host.
func Unpack(ctx context.Context, archive, dir string, limits Limits) error {
	file, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("open code artifact: %w", err)
	}
	defer file.Close()
	reader, err := openZip(file, limits)
	if err != nil {
		return err
	}
	entries, err := check(reader, limits)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make context folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open context folder: %w", err)
	}
	defer root.Close()
	u := unpacker{root: root, fileLimit: limits.FileBytes, left: limits.TotalBytes}
	if err := u.unpack(ctx, entries); err != nil {
		return err
	}
	return requireDockerfile(root, entries)
}

// openZip reads the central directory, and not more of it than allowed: archive/zip keeps every
// entry in memory, so that a directory of a gigabyte would cost several.
func openZip(file *os.File, limits Limits) (*zip.Reader, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat code artifact: %w", err)
	}
	budget := &budgetReaderAt{r: file, left: limits.DirectoryBytes}
	reader, err := zip.NewReader(budget, info.Size())
	switch {
	case errors.Is(err, errDirectoryTooLong):
		return nil, invalid(err, "it has too many entries, at most %d are allowed", limits.Entries)
	case err != nil && !errors.Is(err, zip.ErrInsecurePath): // names are checked one by one later
		return nil, invalid(err, "it is not a zip file")
	}
	budget.unbounded = true
	return reader, nil
}

var errDirectoryTooLong = errors.New("zip directory too long")

// budgetReaderAt fails after a number of bytes until it is made unbounded.
type budgetReaderAt struct {
	r         io.ReaderAt
	left      int64 // bytes
	unbounded bool
}

func (b *budgetReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if !b.unbounded {
		if b.left -= int64(len(p)); b.left < 0 {
			return 0, errDirectoryTooLong
		}
	}
	return b.r.ReadAt(p, off)
}

// requireDockerfile fails unless a Dockerfile lies at the root, and names one that lies deeper:
// zipping a folder instead of its content is the usual mistake.
func requireDockerfile(root *os.Root, entries []entry) error {
	info, err := root.Stat(dockerfile)
	if err == nil && info.Mode().IsRegular() {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for the Dockerfile: %w", err)
	}
	hint := ""
	for _, e := range entries {
		if path.Base(e.name) == dockerfile {
			hint = fmt.Sprintf(" (found %q: zip the content of the folder, not the folder)", e.name)
			break
		}
	}
	return &Error{
		Code: CodeDockerfileNotFound,
		Text: "The code artifact has no Dockerfile at the root of the archive" + hint + ".",
	}
}
