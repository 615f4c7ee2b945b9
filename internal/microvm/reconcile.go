package microvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Start opens the endpoints of the microVMs there are, at door, and brings rows, processes and
// files together after a restart: VMMs that run are adopted, half-done suspends finished or rolled
// back, half-done launches ended, and everything that belongs to nobody is removed. What is wrong
// with one microVM is logged and ends that one at most. Guests are talked to after Start has
// returned. When it fails or is cut short, what it has not come to is as it was.
func (m *Manager) Start(ctx context.Context, door Door) error {
	m.door = door
	records, err := m.cfg.Records.LiveMicroVMs(ctx)
	if err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	found, err := m.survivors(ctx)
	if err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	m.removeStrays(records)
	for _, rec := range records {
		if err := m.recover(ctx, rec, found[rec.ID]); err != nil {
			return fmt.Errorf("reconcile microVM %s: %w", rec.ID, err)
		}
		delete(found, rec.ID)
	}
	for _, orphan := range found {
		orphan.end()
	}
	return nil
}

// fate is what becomes of a microVM that an earlier daemon left.
type fate int

const (
	ends   fate = iota
	sleeps      // it is SUSPENDED and stays so
	wakes       // its VMM is adopted
)

// left is what an earlier daemon left of a microVM.
type left struct {
	state      string // of the row
	checkpoint bool   // there is a complete checkpoint
	resuming   bool   // there is one whose guest was about to run, and perhaps did
	vmm        vmmState
}

type vmmState int

const (
	gone vmmState = iota
	paused
	moving
)

// fateOf decides by what is true on disk and among processes; the row tells only what was last
// written. A checkpoint is the truth unless its guest has run since, and a guest that is MOVING has.
func fateOf(l left) (fate, string) {
	switch l.state {
	case store.VMPending:
		return ends, reasonInterrupted // nobody was told that it runs
	case store.VMTerminating:
		return ends, ""
	case store.VMRunning:
		if l.vmm == gone {
			return ends, reasonVMMDied
		}
		return wakes, ""
	}
	switch {
	case l.vmm == moving:
		return wakes, ""
	case l.checkpoint:
		return sleeps, ""
	case l.resuming && l.vmm == paused: // it was about to run and did not
		return sleeps, ""
	case l.vmm == paused: // it was about to be saved and was not
		return wakes, ""
	}
	return ends, reasonLost
}

// recover puts one microVM into a state that is true. An error means that the database cannot be
// read, which is no reason to end anything.
func (m *Manager) recover(ctx context.Context, rec store.MicroVM, s *survivor) error {
	version, versionErr := m.cfg.Records.Version(ctx, rec.ImageID, rec.ImageVersion)
	if versionErr != nil && !errors.Is(versionErr, store.ErrNotFound) {
		return versionErr
	}
	v := newVM(m, rec, version, nil)
	m.reenter(v)
	c := command{kind: adopt, cause: causeRestart}
	l := left{state: rec.State, checkpoint: exists(v.checkpoint()), resuming: exists(v.resuming())}
	if s != nil {
		l.vmm = s.vmm
	}
	decided, reason := fateOf(l)
	if decided == ends && reason == "" {
		reason = rec.StateReason
	}
	if decided != ends && versionErr != nil {
		v.logFailure("recovery", c, versionErr)
		decided, reason = ends, reasonImage
	}
	if decided == wakes {
		var err error
		if v.image, err = m.image(version); err != nil {
			v.logFailure("recovery", c, err)
			decided, reason = ends, reasonImage
		}
	}
	if decided == sleeps {
		if err := v.stayAsleep(c, s); err != nil {
			v.logFailure("recovery", c, err)
			decided, reason, s = ends, reasonLost, nil
		}
	}
	if decided == ends {
		v.finish(c, s, reason)
		return nil
	}
	if decided == wakes {
		v.survivor = s
	}
	go v.act(c)
	return nil
}

// reenter makes a microVM of an earlier daemon findable at its old address, if it has one. One that
// cannot be reached there keeps its state: the address may be free again after the next restart.
func (m *Manager) reenter(v *vm) {
	var addr netip.Addr
	err := addr.UnmarshalText([]byte(v.view.Load().rec.EndpointAddr)) // of "" the zero address
	if err == nil && addr.IsValid() {
		err = m.door.Expose(addr)
	}
	if err != nil {
		m.log.Error("the endpoint of a microVM cannot be opened again", "microvm", v.id, "error", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(v, addr)
}

// stayAsleep makes sure that a microVM is SUSPENDED: no VMM, a checkpoint under its own name.
func (v *vm) stayAsleep(c command, s *survivor) error {
	if s != nil {
		s.end()
	}
	if !exists(v.checkpoint()) {
		if err := os.Rename(v.resuming(), v.checkpoint()); err != nil {
			return err
		}
	}
	_ = os.Remove(v.resuming())
	if err := snapshot.RemoveUnfinished(v.checkpoint()); err != nil {
		v.logFailure("recovery", c, err)
	}
	rec := v.view.Load().rec
	if rec.State == store.VMSuspended {
		return nil
	}
	rec.State, rec.SuspendedAt = store.VMSuspended, v.m.clock.Now()
	if err := v.change(rec, nil, v.event(c, "suspend")); err != nil {
		v.logFailure("recovery", c, err)
		v.show(rec, nil, nil) // the next change takes the row along
	}
	return nil
}

// finish ends a microVM that cannot go on and never got an actor.
func (v *vm) finish(c command, s *survivor, reason string) {
	defer v.close()
	if s != nil {
		s.end()
	}
	v.end(c, reason)
}

// removeStrays removes the folders of microVMs that have no record.
func (m *Manager) removeStrays(records []store.MicroVM) {
	known := map[string]bool{}
	for _, rec := range records {
		known[rec.ID] = true
	}
	folders, err := os.ReadDir(m.vmsDir())
	for _, folder := range folders {
		if !known[folder.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(m.vmsDir(), folder.Name())))
		}
	}
	if err != nil {
		m.log.Error("what microVMs left on disk cannot be removed", "error", err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
