package rootfs

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"strings"
)

const (
	maxName  = 255  // bytes, ext4
	maxPath  = 4095 // bytes, PATH_MAX of Linux without its final zero
	maxLinks = 255  // links followed for one path, as containerd's RootPath
	maxDepth = 1024 // folders; symbolic links allow more than a path has room for
	// maxText bounds names, targets and attributes, which are kept in memory, and separately the
	// paths the tree is written with, in bytes. A Debian system with 60 000 files has 5 MB.
	maxText = 128 << 20

	// Whiteouts of the OCI image specification (layer.md); the second prefix is AUFS's own
	// bookkeeping, which may still be found in old images.
	whiteout       = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// node is an inode of the flattened file system: hard links share one.
type node struct {
	header       *tar.Header
	children     map[string]*child // nil unless a folder
	layer, entry int               // where its content is
	planned      bool
}

// child is a name in a folder; layer is the last one that had an entry for it.
type child struct {
	*node
	layer int
}

// tree is a file system in memory, without the content of files. Layers are applied in order,
// lowest first, with the rules containerd unpacks them by.
type tree struct {
	root *node
	left int // entries that may still come
	text int // bytes of names, targets and attributes that may still come
}

func newTree(entries int) *tree {
	return &tree{root: newFolder(), left: entries, text: maxText}
}

func newFolder() *node {
	return &node{
		header:   &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, Format: tar.FormatPAX},
		children: map[string]*child{},
	}
}

// apply is an entryFunc; it does not read the content.
func (t *tree) apply(layer, entry int, header *tar.Header, _ io.Reader) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := path.Clean("/" + header.Name)[1:]
	header, err := keep(name, header)
	if err != nil {
		return err
	}
	if err := t.count(header, name); err != nil {
		return err
	}
	if name == "" {
		if header.Typeflag == tar.TypeDir {
			t.root.header = header
		}
		return nil
	}
	dir, base := path.Split(name)
	parent, err := t.lookup(dir, layer, true)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteout) {
		return hideByMark(parent, base, layer)
	}
	return t.place(parent, base, &node{header: header, layer: layer, entry: entry})
}

// count keeps the tree small enough for memory.
func (t *tree) count(h *tar.Header, name string) error {
	t.left--
	t.text -= len(name) + len(h.Linkname)
	for key, value := range h.PAXRecords {
		t.text -= len(key) + len(value)
	}
	if t.left < 0 || t.text < 0 {
		return fmt.Errorf("%w: too many files", ErrTooLarge)
	}
	return nil
}

func (t *tree) place(parent *node, base string, n *node) error {
	switch n.header.Typeflag {
	case tar.TypeLink:
		target, err := t.linkTarget(n.header.Linkname, n.layer)
		if err != nil {
			return err
		}
		parent.children[base] = &child{target, n.layer}
	case tar.TypeDir:
		if present := parent.children[base]; present != nil && present.children != nil {
			present.header, present.layer = n.header, n.layer
			return nil
		}
		n.children = map[string]*child{}
		parent.children[base] = &child{n, n.layer}
	default:
		parent.children[base] = &child{n, n.layer}
	}
	return nil
}

func (t *tree) linkTarget(name string, layer int) (*node, error) {
	dir, base := path.Split(path.Clean("/" + name)[1:])
	parent, err := t.lookup(dir, layer, false)
	if err != nil {
		return nil, err
	}
	if parent == nil || parent.children[base] == nil || parent.children[base].children != nil {
		return nil, fmt.Errorf("%w: hard link to %q, which is no file", ErrInvalid, name)
	}
	return parent.children[base].node, nil
}

// lookup walks to a folder below the root, through symbolic links, whose absolute targets and
// ".." stay below the root as in a chroot. Missing folders are made, or give nil.
func (t *tree) lookup(dir string, layer int, create bool) (*node, error) {
	stack, links := []*node{t.root}, 0
	parts := strings.Split(dir, "/")
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		here := stack[len(stack)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		next := here.children[part]
		switch {
		case next == nil && !create:
			return nil, nil
		case next == nil:
			next = &child{newFolder(), layer}
			if err := t.count(next.header, part); err != nil {
				return nil, err
			}
			here.children[part] = next
			stack = append(stack, next.node)
		case next.children != nil:
			stack = append(stack, next.node)
		case next.header.Typeflag == tar.TypeSymlink:
			if links++; links > maxLinks {
				return nil, fmt.Errorf("%w: too many symbolic links in %q", ErrInvalid, dir)
			}
			if path.IsAbs(next.header.Linkname) {
				stack = stack[:1]
			}
			parts = append(strings.Split(next.header.Linkname, "/"), parts...)
		default:
			return nil, fmt.Errorf("%w: %q in %q is no folder", ErrInvalid, part, dir)
		}
		if len(parts) > maxPath || len(stack) > maxDepth {
			return nil, fmt.Errorf("%w: %.100q is too deep", ErrInvalid, dir)
		}
	}
	return stack[len(stack)-1], nil
}

// hideByMark takes away what lower layers had; what this layer itself put there stays.
func hideByMark(parent *node, base string, layer int) error {
	switch {
	case base == whiteoutOpaque:
		hideLower(parent, layer)
		return nil
	case strings.HasPrefix(base, whiteoutMeta):
		return nil
	}
	name := strings.TrimPrefix(base, whiteout)
	hidden := parent.children[name]
	switch {
	case hidden == nil:
	case hidden.layer < layer:
		delete(parent.children, name)
	default:
		hideLower(hidden.node, layer)
	}
	return nil
}

func hideLower(folder *node, layer int) {
	for name, c := range folder.children {
		if c.layer < layer {
			delete(folder.children, name)
		} else {
			hideLower(c.node, layer)
		}
	}
}
