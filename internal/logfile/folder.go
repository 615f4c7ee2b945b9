// Package logfile keeps what microVMs write in bounded files, and reads logs while they grow.
package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Limits, in bytes per microVM.
const (
	DefaultAppBytes = 10 << 20
	MinAppBytes     = 256 << 10 // some pieces of output at least
	sideBytes       = 256 << 10 // of the console and of the VMM, each: several times what a VMM keeps
)

// Name is one of the logs of a microVM.
type Name string

// The logs of a microVM.
const (
	AppName     Name = "app.log"
	ConsoleName Name = "console.log"
	VMMName     Name = "vmm.log"
)

// stateName is the file that says how far the app's log goes.
const stateName = "app.position"

// Folder holds the logs of all microVMs, in a folder for each.
type Folder struct {
	dir      string
	appBytes int64
	grown    func(id string) // told of each write to an app's log; nil: nobody is

	mu      sync.Mutex   // serialises Append: it is rare
	turning sync.RWMutex // held while an app's log begins a new segment, which is rare too
}

// NewFolder keeps logs under dir, with appBytes at most of each microVM's app.
func NewFolder(dir string, appBytes int64) *Folder {
	return &Folder{dir: dir, appBytes: max(appBytes, MinAppBytes)}
}

// OnGrowth has a function told of each write to an app's log, which it must not hold up. It is to be
// called before anything is written.
func (f *Folder) OnGrowth(grown func(id string)) { f.grown = grown }

// Path is where a log of a microVM is, or will be.
func (f *Folder) Path(id string, name Name) string { return filepath.Join(f.dir, id, string(name)) }

// Append adds to a log that is not the app's.
func (f *Folder) Append(id string, name Name, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := Append(f.Path(id, name), sideBytes, text[max(0, len(text)-sideBytes/2):]); err != nil {
		return fmt.Errorf("keep the %s of microVM %s: %w", name, id, err)
	}
	return nil
}

// Remove takes away all logs of a microVM.
func (f *Folder) Remove(id string) error { return os.RemoveAll(filepath.Join(f.dir, id)) }

// IDs are the microVMs that have logs.
func (f *Folder) IDs() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ids := make([]string, len(entries))
	for i, entry := range entries {
		ids[i] = entry.Name()
	}
	return ids, nil
}

// Append adds text to a bounded log, of which the newest bytes are kept. Calls for one log must not overlap.
func Append(path string, keep int64, text []byte) error {
	log, err := openSegment(path, keep)
	if err == nil {
		err = errors.Join(log.append(text), log.close())
	}
	if err != nil {
		return fmt.Errorf("append to a log: %w", err)
	}
	return nil
}
