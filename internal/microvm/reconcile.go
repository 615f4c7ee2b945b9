package microvm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// adoptLimit bounds the take-over of one VMM.
const adoptLimit = 10 * time.Second

// Start opens the endpoints of the microVMs there are, at door, and brings rows, processes and
// files together after a restart: running microVMs are adopted, half-done suspends finished or
// rolled back, half-done launches ended, and everything that belongs to nobody is removed.
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
	for _, rec := range records {
		s := found[rec.ID]
		delete(found, rec.ID)
		if err := m.recover(ctx, rec, s); err != nil {
			return fmt.Errorf("reconcile microVM %s: %w", rec.ID, err)
		}
	}
	for _, orphan := range found {
		orphan.end()
	}
	return m.removeStrays(records)
}

// survivor is a session of an earlier daemon, not connected yet.
type survivor struct {
	session
	before [guest.SecretSize]byte // the agent's secret if it was not told the new one yet
}

// survivors finds the VMM processes an earlier daemon left, by microVM. Those of helpers, of
// nobody and of unreadable folders are ended here.
func (m *Manager) survivors(ctx context.Context) (map[string]*survivor, error) {
	folders, err := os.ReadDir(m.runsDir())
	if err != nil {
		return nil, err
	}
	found := map[string]*survivor{}
	for _, folder := range folders {
		run := filepath.Join(m.runsDir(), folder.Name())
		s := m.survivor(ctx, run)
		if s == nil {
			if err := os.RemoveAll(run); err != nil {
				return nil, err
			}
			continue
		}
		owner, err := readOwner(run)
		if err != nil || owner.MicroVM == "" || found[owner.MicroVM] != nil {
			s.end()
			continue
		}
		copy(s.secret[:], owner.Secret)
		copy(s.before[:], owner.Before)
		found[owner.MicroVM] = s
	}
	return found, nil
}

func (m *Manager) survivor(ctx context.Context, run string) *survivor {
	ctx, cancel := context.WithTimeout(ctx, adoptLimit)
	defer cancel()
	machine, err := m.cfg.Driver.Adopt(ctx, run)
	if err != nil {
		if !errors.Is(err, vmm.ErrExited) {
			m.log.Warn("a VMM left by an earlier run cannot be taken over", "run", run, "err", err)
		}
		return nil
	}
	return &survivor{session: session{machine: machine, run: run}}
}

// recover puts one microVM into a state that is true.
func (m *Manager) recover(ctx context.Context, rec store.MicroVM, s *survivor) error {
	version, err := m.cfg.Records.Version(ctx, rec.ImageID, rec.ImageVersion)
	if err != nil {
		return err
	}
	image, imageErr := m.image(version)
	v := newVM(m, rec, version, image)
	if err := m.enter(v); err != nil {
		return err
	}
	c := command{kind: adopt, cause: causeRestart}
	if imageErr != nil {
		m.log.Error("the image of a microVM cannot be used", "microvm", rec.ID, "err", imageErr)
		return v.finish(c, s, reasonLost)
	}
	switch rec.State {
	case store.VMPending:
		return v.finish(c, s, reasonInterrupted)
	case store.VMTerminating:
		return v.finish(c, s, rec.StateReason)
	case store.VMSuspending, store.VMSuspended:
		return v.recoverCheckpoint(ctx, c, s)
	default:
		return v.recoverRunning(ctx, c, s)
	}
}

// recoverCheckpoint decides for a microVM that was SUSPENDED, or on the way there or back. A
// complete checkpoint under its own name is the truth: the guest has not run since.
func (v *vm) recoverCheckpoint(ctx context.Context, c command, s *survivor) error {
	if exists(v.checkpoint()) {
		if s != nil {
			s.end()
		}
		return v.stayAsleep(c)
	}
	paused := true
	if s != nil {
		var err error
		if paused, err = s.machine.Paused(ctx); err != nil {
			return v.finish(c, s, reasonVMMDied)
		}
	}
	if exists(v.resuming()) && paused && s != nil {
		// It was about to run and did not: nothing has changed since the checkpoint.
		s.end()
		if err := os.Rename(v.resuming(), v.checkpoint()); err != nil {
			return err
		}
		return v.stayAsleep(c)
	}
	if s == nil {
		return v.finish(c, nil, reasonLost)
	}
	// Either no checkpoint was written yet, or the guest ran on from it: it goes on.
	return v.recoverRunning(ctx, c, s)
}

// stayAsleep goes on as SUSPENDED.
func (v *vm) stayAsleep(c command) error {
	rec := v.view.Load().rec
	if rec.State != store.VMSuspended {
		rec.State, rec.SuspendedAt = store.VMSuspended, v.m.clock.Now()
		if err := v.change(rec, nil, v.event(c, "suspend")); err != nil {
			return err
		}
	}
	_ = os.Remove(v.resuming())
	go v.act(c)
	return nil
}

// recoverRunning takes over the VMM of a microVM, if it still runs.
func (v *vm) recoverRunning(ctx context.Context, c command, s *survivor) error {
	if s == nil {
		return v.finish(c, nil, reasonVMMDied)
	}
	if err := v.takeOver(ctx, s); err != nil {
		v.logFailure("take-over", c, err)
		return v.finish(c, s, reasonVMMDied)
	}
	v.generation++
	rec := v.view.Load().rec
	if rec.State == store.VMRunning {
		v.show(rec, &s.session, nil)
	} else {
		rec.State, rec.SuspendedAt = store.VMRunning, time.Time{}
		if err := v.change(rec, &s.session, v.event(c, "resume")); err != nil {
			return err
		}
	}
	_ = os.Remove(v.resuming())
	go v.act(c)
	return nil
}

// takeOver connects to a survivor's network and agent and lets it run.
func (v *vm) takeOver(ctx context.Context, s *survivor) error {
	ctx, cancel := context.WithTimeout(ctx, adoptLimit)
	defer cancel()
	if err := s.connect(ctx, v.origin().network, s.secret); err != nil {
		return err
	}
	if err := s.machine.Resume(ctx); err != nil {
		return err
	}
	// The clock did not stop with the daemon, but the daemon may have stopped before the agent was
	// told its new secret; then it is told now.
	request := guest.RestoreRequest{Secret: s.secret}
	if _, err := rand.Read(request.Entropy[:]); err != nil {
		return err
	}
	quick, stop := context.WithTimeout(ctx, adoptLimit/2)
	defer stop()
	if _, err := s.client.Restore(quick, request); err == nil {
		return nil
	}
	s.client = guest.New(s.stack.DialGuest, s.before)
	_, err := s.client.Restore(ctx, request)
	return err
}

// finish ends a microVM that cannot go on.
func (v *vm) finish(c command, s *survivor, reason string) error {
	defer v.m.actors.Done()
	defer close(v.ended)
	if s != nil {
		s.end()
	}
	v.end(c, reason)
	return nil
}

// removeStrays removes the folders of microVMs that have no record.
func (m *Manager) removeStrays(records []store.MicroVM) error {
	known := map[string]bool{}
	for _, rec := range records {
		known[rec.ID] = true
	}
	folders, err := os.ReadDir(m.vmsDir())
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if !known[folder.Name()] {
			if err := os.RemoveAll(filepath.Join(m.vmsDir(), folder.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
