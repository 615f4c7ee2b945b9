package bundle

import (
	"archive/zip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/internal/image/artifact"
)

// packer writes the entries of a zip.
type packer struct {
	root    string
	ignored *ignored
	zip     *zip.Writer
	written counter
	made    Bundle
	entries int
}

// limits are those of the daemon, told before a folder is sent that it would refuse.
var limits = artifact.DefaultLimits

func (p *packer) visit(file string, entry fs.DirEntry) error {
	relative, err := filepath.Rel(p.root, file)
	if err != nil || relative == "." {
		return err
	}
	name := filepath.ToSlash(relative)
	// The build itself needs these; what the .dockerignore says of them, BuildKit heeds.
	if name != dockerfile && name != dockerignore && name != ownIgnore {
		skip, err := p.ignored.matches(name)
		if err != nil {
			return err
		}
		if skip {
			if entry.IsDir() && !p.ignored.mayReturn(name) {
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
	if p.entries++; p.entries > limits.Entries {
		return fmt.Errorf("it has more than %d files and folders: name in %s what the build does not need", limits.Entries, dockerignore)
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
	n, err := io.Copy(out, io.LimitReader(from, limits.TotalBytes-p.made.Bytes+1)) // it may be growing
	p.made.Files++
	if p.made.Bytes += n; p.made.Bytes > limits.TotalBytes {
		return fmt.Errorf("it has more than %d GiB: name in %s what the build does not need", limits.TotalBytes>>30, dockerignore)
	}
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
