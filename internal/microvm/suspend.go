package microvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
)

// saveLimit bounds the pause and the writing of a checkpoint.
const saveLimit = 5 * time.Minute

// suspend takes a RUNNING microVM to SUSPENDED: hook, pause, checkpoint made durable, state
// recorded, and only then the VMM ended. Until the record is written the VM can go on.
func (v *vm) suspend(ctx context.Context, c command) {
	now := v.view.Load()
	switch now.rec.State {
	case store.VMRunning:
	case store.VMSuspended, store.VMSuspending:
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
		return
	}
	c.accept(nil)

	phases.Next("hook")
	if reason := v.suspendHook(ctx, s); reason != "" {
		c.cause = causeHook
		v.endSession(c, s, reason)
		return
	}
	if err := v.save(ctx, c, s, phases); err != nil {
		v.goOn(c, s, err)
		return
	}
	// Nothing waits for this: the state is safe and recorded.
	go s.end()
	v.m.launcher.pool.use(v.image)
}

// suspendHook returns why the microVM must end instead of being suspended, "" if nothing speaks
// against it. A hook that fails terminates the VM (live behaviour, spec/behaviour.md 18).
func (v *vm) suspendHook(ctx context.Context, s running) string {
	hook := v.version.Config.Hooks.Suspend
	if !hook.Enabled {
		return ""
	}
	reply, err := s.hook(ctx, hookRequest("suspend", v.version.Config.Hooks.Port, hook))
	if err != nil {
		reply.Error = err.Error()
	}
	return hookFailure("Suspend", hook, reply)
}

// save writes the checkpoint and records SUSPENDED.
func (v *vm) save(ctx context.Context, c command, s running, phases *telemetry.Phases) error {
	ctx, cancel := context.WithTimeout(ctx, saveLimit)
	defer cancel()
	phases.Next("pause")
	if err := s.pause(ctx); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	phases.Next("checkpoint")
	dirty, err := s.checkpointTo(ctx, v.checkpoint(), v.disk())
	if err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	rec := v.view.Load().rec
	rec.State, rec.SuspendedAt = store.VMSuspended, v.m.clock.Now()
	e := v.event(c, "suspend")
	e.Detail = fmt.Sprintf("%d bytes dirty", dirty)
	e.Phases = phases.End()
	return v.change(rec, nil, e)
}

// goOn lets a VM run again whose suspend failed, and reports why.
func (v *vm) goOn(c command, s running, cause error) {
	v.logFailure("suspend", c, cause)
	_ = os.Remove(v.checkpoint())
	c.detail = cause.Error()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := s.goOn(ctx); err != nil {
		v.endSession(c, s, reasonVMMDied)
		return
	}
	if hook := v.version.Config.Hooks.Resume; hook.Enabled {
		// The app has been told that it sleeps; tell it that it woke.
		if reply, err := s.hook(ctx, hookRequest("resume", v.version.Config.Hooks.Port, hook)); err != nil || reply.Status != 200 {
			v.logFailure("resume hook after a failed suspend", c, errors.Join(err, errors.New(hookFailure("Resume", hook, reply))))
		}
	}
	v.touch() // the next try of an idle VM comes after another idle period
	rec := v.view.Load().rec
	rec.State, rec.StateReason = store.VMRunning, suspendFailure(cause)
	if err := v.change(rec, s, v.event(c, "suspend")); err != nil {
		v.logFailure("suspend", c, err)
		v.show(rec, s, nil)
	}
}

// suspendFailure is what users may read.
func suspendFailure(cause error) string {
	if errors.Is(cause, syscall.ENOSPC) || errors.Is(cause, syscall.EDQUOT) {
		return "The MicroVM could not be suspended because the host has no space left to save its state. It keeps running."
	}
	return "The MicroVM could not be suspended. It keeps running."
}

// shutDown makes a microVM ready for the end of the daemon.
func (v *vm) shutDown(ctx context.Context, c command) {
	if v.view.Load().rec.State == store.VMRunning {
		v.suspend(ctx, command{kind: suspend, cause: c.cause})
	}
	switch state := v.view.Load().rec.State; state {
	case store.VMRunning:
		c.accept(fmt.Errorf("microVM %s could not be suspended and is left running", v.id))
	default:
		c.accept(nil)
	}
}
