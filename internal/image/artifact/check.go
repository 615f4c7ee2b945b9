package artifact

import (
	"archive/zip"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// entry is one checked entry: name is clean, relative and inside the archive.
type entry struct {
	name string
	mode fs.FileMode
	file *zip.File
}

const (
	flagEncrypted  = 0x1 // APPNOTE.TXT 4.4.4, general purpose bit 0
	componentBytes = 255 // NAME_MAX of Linux
)

// check looks at every entry before the first one is written.
func check(reader *zip.Reader, limits Limits) ([]entry, error) {
	if len(reader.File) > limits.Entries {
		return nil, invalid(nil, "it has %d entries, at most %d are allowed", len(reader.File), limits.Entries)
	}
	entries := make([]entry, 0, len(reader.File))
	seen := make(map[string]bool, len(reader.File))
	implied := map[string]bool{} // folders that only the names of other entries mention
	for _, file := range reader.File {
		name, err := checkName(file.Name, limits)
		if err != nil {
			return nil, err
		}
		if name == "." { // the archived folder itself, which some tools write
			continue
		}
		if seen[name] {
			return nil, invalid(nil, "it has more than one entry %q", name)
		}
		seen[name] = true
		if file.Flags&flagEncrypted != 0 {
			return nil, invalid(nil, "the entry %q is encrypted", name)
		}
		mode := file.Mode()
		switch mode.Type() {
		case 0, fs.ModeDir, fs.ModeSymlink:
		default:
			return nil, invalid(nil, "the entry %q is neither a file nor a folder nor a symbolic link", name)
		}
		entries = append(entries, entry{name: name, mode: mode, file: file})
		for dir := path.Dir(name); dir != "." && !implied[dir]; dir = path.Dir(dir) {
			implied[dir] = true
		}
		if len(entries)+len(implied) > limits.Entries {
			return nil, invalid(nil, "it has too many files and folders, at most %d are allowed", limits.Entries)
		}
	}
	return entries, nil
}

// checkName returns the name in its clean form, or refuses it.
func checkName(raw string, limits Limits) (string, error) {
	switch {
	case !utf8.ValidString(raw):
		return "", invalid(nil, "the name of the entry %q is not UTF-8", raw)
	case len(raw) > limits.NameBytes:
		return "", invalid(nil, "the entry %q has a name longer than %d bytes", raw[:64]+"…", limits.NameBytes)
	case strings.ContainsAny(raw, "\\\x00"):
		return "", invalid(nil, "the name of the entry %q has a character that is not allowed", raw)
	case !filepath.IsLocal(raw):
		return "", invalid(nil, "the entry %q leads outside the archive", raw)
	}
	name := path.Clean(raw)
	parts := strings.Split(name, "/")
	if len(parts) > limits.Depth {
		return "", invalid(nil, "the entry %q lies more than %d folders deep", name, limits.Depth)
	}
	for _, part := range parts {
		if len(part) > componentBytes {
			return "", invalid(nil, "the entry %q has a name longer than %d bytes", part[:64]+"…", componentBytes)
		}
	}
	return name, nil
}
