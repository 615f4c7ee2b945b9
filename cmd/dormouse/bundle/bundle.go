// Package bundle packs a folder as the zip that an image is built from, without what its .dockerignore names.
package bundle

import (
	"archive/zip"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	dockerfile   = "Dockerfile"
	dockerignore = ".dockerignore"
	ownIgnore    = dockerfile + dockerignore // goes before .dockerignore, as for BuildKit
)

// Bundle is a packed folder.
type Bundle struct {
	Files   int
	Bytes   int64    // of the files
	Zipped  int64    // bytes of the zip
	SHA256  string   // of the zip, hex
	Skipped []string // sockets, pipes and devices, which no archive can hold
}

// NoFolderError says that there is nothing to pack.
type NoFolderError struct{ Dir string }

func (e *NoFolderError) Error() string { return "there is no folder " + e.Dir }

// NoDockerfileError says that a folder cannot be built.
type NoDockerfileError struct{ Dir string }

func (e *NoDockerfileError) Error() string { return e.Dir + " has no Dockerfile" }

// Hint says what to do about it.
func (e *NoDockerfileError) Hint() string {
	return "an image is built from a folder with a Dockerfile in it; examples/counter is one"
}

// Find checks that a folder can be built and returns where it really is. Errors: *NoFolderError and
// *NoDockerfileError, among others.
func Find(dir string) (root string, err error) {
	root, err = filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &NoFolderError{dir}
	}
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return "", cmp.Or(err, fmt.Errorf("%s is not a folder", dir))
	}
	if info, err := os.Stat(filepath.Join(root, dockerfile)); errors.Is(err, fs.ErrNotExist) || (err == nil && info.IsDir()) {
		return "", &NoDockerfileError{dir}
	} else if err != nil {
		return "", err
	}
	return root, nil
}

// Pack writes the zip of a folder. Names are slash-separated and relative to it, permissions and
// times are kept, symbolic links stay links. The same folder makes the same zip.
func Pack(ctx context.Context, dir string, to io.Writer) (Bundle, error) {
	root, err := Find(dir)
	if err != nil {
		return Bundle{}, err
	}
	ignored, err := readIgnored(root)
	if err != nil {
		return Bundle{}, err
	}
	sum := sha256.New()
	p := &packer{root: root, ignored: ignored, written: counter{to: io.MultiWriter(to, sum)}}
	p.zip = zip.NewWriter(&p.written)
	err = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		return p.visit(file, entry)
	})
	if err == nil {
		err = p.zip.Close()
	}
	p.made.Zipped, p.made.SHA256 = p.written.n, hex.EncodeToString(sum.Sum(nil))
	if err != nil {
		return Bundle{}, fmt.Errorf("pack %s: %w", dir, err)
	}
	return p.made, nil
}
