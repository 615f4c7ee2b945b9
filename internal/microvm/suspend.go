package microvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
)

// saveLimit bounds the pause and the writing of a checkpoint.
const saveLimit = 5 * time.Minute

// suspend takes a RUNNING microVM to SUSPENDED: requests in flight ended, hook, pause, checkpoint made durable, state
// recorded, and only then the VMM ended. Until the record is written the VM can go on.
func (v *vm) suspend(c command) {
	now := v.view.Load()
	switch now.rec.State {
	case store.VMRunning:
	case store.VMSuspended:
		c.accept(nil)
		return
	default:
		c.accept(ErrConflict)
		return
	}
	phases := telemetry.Begin(v.m.clock, "record")
	rec, s := now.rec, now.session
	rec.State, rec.StateReason = store.VMSuspending, ""
	if err := v.change(rec, nil, v.event(c, "suspend")); err != nil {
		v.logFailure("suspend", c, err)
		c.accept(err)
		v.touch() // the next try of an idle VM comes after another idle period
		return
	}
	c.accept(nil)
	if err := v.sleep(c, s, phases); err != nil {
		v.notSuspended(c, s, err)
		return
	}
	gone := make(chan struct{})
	v.before = gone
	v.m.loose.Go(func() { // the state is safe and recorded
		defer close(gone)
		v.collect(s)
		s.end()
	})
	v.m.loose.Go(func() { v.settle(s, gone) })
	v.m.pool.use(v.image)
}

// sleep lets requests end, calls the hook, writes the checkpoint and records SUSPENDED.
func (v *vm) sleep(c command, s running, phases *telemetry.Phases) error {
	v.endProcesses()
	v.letRequestsEnd(v.life, s, func() { phases.Next("drain") })
	phases.Next("queue")
	release, err := v.m.admit(v.life, nil)
	if err != nil {
		return err
	}
	defer release()
	phases.Next("hook")
	if err := v.suspendHook(s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(v.life, saveLimit)
	defer cancel()
	phases.Next("pause")
	if err := s.pause(ctx); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	phases.Next("checkpoint")
	if !v.folderSynced.Load() { // the launch did not get to it yet, or could not
		if err := snapshot.SyncDir(v.m.vmsDir()); err != nil {
			return fmt.Errorf("sync the microVM's folder: %w", err)
		}
		v.folderSynced.Store(true)
	}
	dirty, err := s.checkpointTo(ctx, v.checkpoint(), v.disk())
	if err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	rec := v.view.Load().rec
	rec.State, rec.SuspendedAt = store.VMSuspended, v.m.clock.Now()
	if c.cause == causeShutdown {
		rec.StateReason = reasonStopped
	}
	e := v.event(c, "suspend")
	e.Detail = fmt.Sprintf("%d bytes dirty", dirty)
	e.Phases = phases.End()
	return v.change(rec, nil, e)
}

// hookError is the stateReason of a hook because of which a microVM must end.
type hookError string

func (e hookError) Error() string { return string(e) }

// suspendHook calls the hook; one that fails terminates the VM (live behaviour, spec/behaviour.md 18).
func (v *vm) suspendHook(s running) error {
	hook := v.version.Config.Hooks.Suspend
	if !hook.Enabled {
		return nil
	}
	reply, err := s.hook(v.life, hookRequest("suspend", v.version.Config.Hooks.Port, hook))
	if err != nil {
		v.m.log.Warn("suspend hook", "microvm", v.id, "error", err)
	}
	if reason := hookFailure("Suspend", hook, reply); reason != "" {
		return hookError(reason)
	}
	return nil
}

// notSuspended ends a VM whose suspend did not succeed, or lets it run again.
func (v *vm) notSuspended(c command, s running, err error) {
	var hook hookError
	end, doomed := v.doomedBy()
	switch {
	case doomed:
		v.endSession(end, s, end.reason())
	case isClosed(s.vmmDone()):
		c.cause = causeFailure
		v.logFailure("suspend", c, err)
		v.endSession(c, s, reasonVMMDied)
	case errors.As(err, &hook):
		c.cause = causeHook
		v.endSession(c, s, string(hook))
	default:
		v.goOn(c, s, err)
	}
}

// goOn lets a VM run again whose suspend failed, and reports why.
func (v *vm) goOn(c command, s running, cause error) {
	v.logFailure("suspend", c, cause)
	c.detail = suspendFailure(cause)
	if err := v.runOn(s); err != nil {
		v.logFailure("go on after a failed suspend", c, err)
		v.endSession(c, s, reasonVMMDied)
		return
	}
	if hook := v.version.Config.Hooks.Resume; hook.Enabled {
		// The app has been told that it sleeps; tell it that it woke.
		reply, err := s.hook(v.life, hookRequest("resume", v.version.Config.Hooks.Port, hook))
		if reason := hookFailure("Resume", hook, reply); reason != "" {
			v.logFailure("resume hook after a failed suspend", c, errors.Join(err, errors.New(reason)))
		}
	}
	v.touch() // the next try of an idle VM comes after another idle period
	rec := v.view.Load().rec
	rec.State, rec.StateReason = store.VMRunning, suspendFailure(cause)
	if err := v.change(rec, s, v.event(c, "suspend")); err != nil {
		v.logFailure("suspend", c, err)
		v.show(rec, s, nil) // the next change takes the row along
	}
}

// runOn lets the guest run, once its checkpoint is gone: its disk is about to move on.
func (v *vm) runOn(s running) error {
	if err := os.Remove(v.checkpoint()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the checkpoint: %w", err)
	}
	v.m.loose.Go(v.syncFiles)
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return s.goOn(ctx)
}

// suspendFailure is what users may read.
func suspendFailure(cause error) string {
	if errors.Is(cause, syscall.ENOSPC) || errors.Is(cause, syscall.EDQUOT) {
		return "The MicroVM could not be suspended because the host has no space left to save its state. It keeps running."
	}
	return "The MicroVM could not be suspended. It keeps running."
}

// shutDown makes a microVM ready for the end of the daemon.
func (v *vm) shutDown(c command) {
	if v.state() == store.VMRunning {
		v.suspend(command{kind: suspend, cause: c.cause})
	}
	if v.state() == store.VMRunning {
		c.accept(fmt.Errorf("microVM %s could not be suspended and is left running", v.id))
		return
	}
	c.accept(nil)
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
