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
	"path"
	"path/filepath"
)

const (
	dockerfile   = "Dockerfile"
	dockerignore = ".dockerignore"
)

// Bundle is a packed folder.
type Bundle struct {
	Files   int
	Bytes   int64    // of the files
	Zipped  int64    // bytes of the zip
	SHA256  string   // of the zip, hex
	Skipped []string // sockets, pipes and devices, which no archive can hold
}

// NoDockerfileError says that a folder cannot be built.
type NoDockerfileError struct{ Dir string }

func (e *NoDockerfileError) Error() string { return e.Dir + " has no Dockerfile" }

// Hint says what to do about it.
func (e *NoDockerfileError) Hint() string {
	return "an image is built from a folder with a Dockerfile in it; examples/counter is one"
}

// Pack writes the zip of a folder. Names are slash-separated and relative to it, permissions and
// times are kept, symbolic links stay links. The same folder makes the same zip.
func Pack(ctx context.Context, dir string, to io.Writer) (Bundle, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return Bundle{}, err
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return Bundle{}, cmp.Or(err, fmt.Errorf("%s is not a folder", dir))
	}
	if info, err := os.Stat(filepath.Join(root, dockerfile)); errors.Is(err, fs.ErrNotExist) || (err == nil && info.IsDir()) {
		return Bundle{}, &NoDockerfileError{dir}
	} else if err != nil {
		return Bundle{}, err
	}
	ignored, err := readIgnored(filepath.Join(root, dockerignore))
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

type packer struct {
	root    string
	ignored *ignored
	zip     *zip.Writer
	written counter
	made    Bundle
}

func (p *packer) visit(file string, entry fs.DirEntry) error {
	relative, err := filepath.Rel(p.root, file)
	if err != nil || relative == "." {
		return err
	}
	name := filepath.ToSlash(relative)
	// The build itself needs these two; what the .dockerignore says of them, BuildKit heeds.
	if name != dockerfile && name != dockerignore {
		skip, err := p.ignored.matches(name)
		if err != nil {
			return err
		}
		if skip {
			if entry.IsDir() && !p.ignored.mayReturn() {
				return fs.SkipDir
			}
			return nil
		}
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	header, err := zip.FileInfoHeader(info)
	if err != nil {
		return err
	}
	header.Name, header.Method = name, zip.Deflate
	switch info.Mode().Type() {
	case fs.ModeDir:
		header.Name, header.Method = name+"/", zip.Store
		_, err = p.zip.CreateHeader(header)
		return err
	case fs.ModeSymlink:
		return p.addLink(header, file)
	case 0:
		return p.addFile(header, file)
	default:
		p.made.Skipped = append(p.made.Skipped, name)
		return nil
	}
}

func (p *packer) addFile(header *zip.FileHeader, file string) error {
	from, err := os.Open(file)
	if err != nil {
		return err
	}
	defer from.Close()
	out, err := p.zip.CreateHeader(header)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, from)
	p.made.Files++
	p.made.Bytes += n
	return err
}

// addLink keeps a link. The daemon refuses an archive whose links lead outside, so that is told here.
func (p *packer) addLink(header *zip.FileHeader, file string) error {
	target, err := os.Readlink(file)
	if err != nil {
		return err
	}
	slashed := filepath.ToSlash(target)
	if path.IsAbs(slashed) || !filepath.IsLocal(path.Join(path.Dir(header.Name), slashed)) {
		return fmt.Errorf("the symbolic link %s leads outside the folder (to %s): remove it, or name it in %s", header.Name, target, dockerignore)
	}
	out, err := p.zip.CreateHeader(header)
	if err == nil {
		_, err = io.WriteString(out, slashed)
		p.made.Files++
	}
	return err
}

// counter counts what is written.
type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.n += int64(n)
	return n, err
}
