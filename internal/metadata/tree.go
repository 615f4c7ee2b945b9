package metadata

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// folder holds files and folders by name.
type folder struct{ entries map[string]any }

// file makes a text.
type file func(ctx context.Context) (string, error)

func newFolder() *folder { return &folder{entries: map[string]any{}} }

func (f *folder) folder(name string) *folder {
	made := newFolder()
	f.entries[name] = made
	return made
}

func (f *folder) file(name string, content file) { f.entries[name] = content }

// text is a file that never changes.
func text(content string) file {
	return func(context.Context) (string, error) { return content, nil }
}

// find returns a *folder, a file, or nil. A slash at the end makes no difference, as on EC2.
func (f *folder) find(path string) any {
	if path == "/" {
		return f
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil
	}
	var at any = f
	for name := range strings.SplitSeq(strings.TrimSuffix(rest, "/"), "/") {
		inside, ok := at.(*folder)
		if !ok {
			return nil
		}
		at = inside.entries[name]
	}
	return at
}

// list is what a folder is shown as: a name a line, those of folders with a slash.
func (f *folder) list() string {
	names := slices.Sorted(maps.Keys(f.entries))
	for i, name := range names {
		if _, ok := f.entries[name].(*folder); ok {
			names[i] += "/"
		}
	}
	return strings.Join(names, "\n")
}
