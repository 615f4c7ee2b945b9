package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// announcement is what the daemon tells in its data folder: where it serves, as long as it does, and how it ended.
type announcement struct {
	dir string

	mu       sync.Mutex // guards all below
	daemon   connection.Daemon
	stopping bool
	end      ending
}

// ending is how a daemon has ended, for `dormouse down`.
type ending struct {
	Asleep  int    `json:"asleep"`  // microVMs of all accounts that sleep
	Running int    `json:"running"` // microVMs that were left running, for the next daemon to adopt
	Error   string `json:"error"`   // "" if all went well
}

// forget takes away what an earlier daemon told, which may have been killed.
func (a *announcement) forget() error {
	for _, name := range []string{connection.DaemonFile, endingFile} {
		if err := os.Remove(filepath.Join(a.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// serve tells where the daemon listens.
func (a *announcement) serve(d connection.Daemon) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.daemon = d
	return a.write()
}

// builder tells how far the builder is.
func (a *announcement) builder(state connection.BuilderState) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping || a.daemon.Builder == state {
		return nil
	}
	a.daemon.Builder = state
	return a.write()
}

func (a *announcement) write() error {
	return writeJSON(filepath.Join(a.dir, connection.DaemonFile), a.daemon)
}

// stop tells that the daemon takes no more requests, though it may live on for minutes.
func (a *announcement) stop() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopping = true
	if err := os.Remove(filepath.Join(a.dir, connection.DaemonFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tell that the daemon stops: %w", err)
	}
	return nil
}

// count remembers what becomes of the microVMs, by how many are in each state.
func (a *announcement) count(states map[string]int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for state, n := range states {
		switch state {
		case store.VMTerminated:
		case store.VMSuspended:
			a.end.Asleep += n
		default:
			a.end.Running += n
		}
	}
}

// ended tells how the daemon ended: with failed, or well.
func (a *announcement) ended(failed error) error {
	err := a.stop()
	if failed != nil && !errors.Is(failed, context.Canceled) { // that is to be told to end while it starts
		a.end.Error = failed.Error()
	}
	return errors.Join(err, writeJSON(filepath.Join(a.dir, endingFile), a.end))
}

// readEnding is how the last daemon of a folder ended; fs.ErrNotExist says that it did not tell.
func readEnding(dir string) (e ending, err error) {
	text, err := os.ReadFile(filepath.Join(dir, endingFile))
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal(text, &e)
}
