package rootfs

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
)

const (
	block      = 4096 // bytes, the block size tar2ext4 writes
	inodeBytes = 256  // bytes, its inode size
	// smallTarget is the longest symbolic link target that fits into the inode.
	smallTarget = 59 // bytes
)

// plan is the order the tree is written in: folders, then files in the order in which their
// layers hold them, then what has no content.
type plan struct {
	folders []*tar.Header
	files   []map[int]*tar.Header // per layer: the entries that survive
	rest    []*tar.Header         // symbolic links and devices
	links   []*tar.Header         // further names of files
	bytes   int64                 // least size of the file system
	text    int                   // bytes of paths that may still come
}

func (t *tree) plan(layers int) (*plan, error) {
	p := &plan{files: make([]map[int]*tar.Header, layers), text: maxText}
	for i := range p.files {
		p.files[i] = map[int]*tar.Header{}
	}
	if err := p.addFolder(t.root, ""); err != nil {
		return nil, err
	}
	return p, nil
}

// addFolder adds a folder whose name ends with a slash (the root has none) and all that is in it.
func (p *plan) addFolder(folder *node, name string) error {
	folder.header.Name = name
	if name == "" {
		folder.header.Name = "./"
	}
	p.folders = append(p.folders, folder.header)
	p.bytes += inodeBytes + block
	for _, base := range slices.Sorted(maps.Keys(folder.children)) {
		n, full := folder.children[base].node, name+base
		if p.text -= len(full); p.text < 0 {
			return fmt.Errorf("%w: too many files", ErrTooLarge)
		}
		if n.children == nil {
			p.addName(n, full)
		} else if err := p.addFolder(n, full+"/"); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) addName(n *node, name string) {
	if n.planned {
		p.links = append(p.links, &tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeLink, Name: name, Linkname: n.header.Name})
		return
	}
	n.planned, n.header.Name = true, name
	p.bytes += inodeBytes
	if n.header.Typeflag == tar.TypeReg {
		p.files[n.layer][n.entry] = n.header
		p.bytes = min(p.bytes+(n.header.Size+block-1)/block*block, 1<<60) // keeps the sum from wrapping
		return
	}
	p.rest = append(p.rest, n.header)
	if n.header.Typeflag == tar.TypeSymlink && len(n.header.Linkname) > smallTarget {
		p.bytes += block
	}
}

// emit writes the planned tree as one tar stream.
func (i *image) emit(ctx context.Context, p *plan, budget *readBudget, w *tar.Writer) error {
	if err := writeHeaders(w, p.folders); err != nil {
		return err
	}
	for layer, survivors := range p.files {
		if len(survivors) == 0 {
			continue
		}
		err := i.readLayer(ctx, layer, budget, func(_, entry int, _ *tar.Header, content io.Reader) error {
			header, ok := survivors[entry]
			if !ok {
				return nil
			}
			if err := w.WriteHeader(header); err != nil {
				return err
			}
			_, err := io.Copy(w, content)
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := writeHeaders(w, p.rest); err != nil {
		return err
	}
	return writeHeaders(w, p.links)
}

func writeHeaders(w *tar.Writer, headers []*tar.Header) error {
	for _, header := range headers {
		if err := w.WriteHeader(header); err != nil {
			return err
		}
	}
	return nil
}
