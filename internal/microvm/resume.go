package microvm

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
)

// resume wakes a SUSPENDED microVM from its checkpoint. If that fails before the guest ran, it
// stays SUSPENDED as it was; afterwards its state is lost, and it says so.
func (v *vm) resume(c command) {
	switch v.state() {
	case store.VMSuspended:
	case store.VMRunning:
		c.accept(nil)
		return
	default:
		c.accept(ErrConflict)
		return
	}
	c.accept(nil)
	phases := telemetry.Begin(v.m.clock, "queue")
	ran := false
	s, reply, err := v.restart(phases, &ran)
	if err != nil {
		v.notResumed(c, err, ran)
		return
	}
	var hookErr error
	if reason := hookFailure("Resume", v.version.Config.Hooks.Resume, reply.Hook); reason != "" {
		// The app's state is whole, so the VM lives; whoever waited for this wake learns of it
		// (spec/behaviour.md 5: the first request may get 502).
		hookErr = hookError(reason)
		v.logFailure("resume hook", c, hookErr)
		c.detail = reason
	}
	v.serve(c, "resume", s, phases, hookErr)
	_ = os.Remove(v.resuming())
	v.m.pool.use(v.image)
}

// restart starts the guest from its checkpoint; ran tells that it ran, even if that failed.
func (v *vm) restart(phases *telemetry.Phases, ran *bool) (running, guest.RestoreReply, error) {
	release, err := v.m.admit(v.life, v.m.closing)
	if err != nil {
		return nil, guest.RestoreReply{}, err
	}
	defer release()
	if v.image == nil {
		if v.image, err = v.m.image(v.version); err != nil {
			return nil, guest.RestoreReply{}, err
		}
	}
	from := v.origin()
	from.checkpoint = v.checkpoint()
	from.beforeRun = func() error {
		if err := v.alone(); err != nil {
			return err
		}
		if err := os.Rename(v.checkpoint(), v.resuming()); err != nil {
			return err
		}
		*ran = true
		v.m.loose.Go(v.syncFiles)
		return nil
	}
	if hook := v.version.Config.Hooks.Resume; hook.Enabled {
		from.request.Hook = hookRequest("resume", v.version.Config.Hooks.Port, hook)
	}
	s, reply, err := v.m.starter.start(v.life, from, phases)
	if errors.Is(err, errNeverRan) {
		*ran = false
		err = errors.Join(err, os.Rename(v.resuming(), v.checkpoint()))
	}
	return s, reply, err
}

// alone waits for the end of the VMM that was suspended last, which takes some ten milliseconds: only
// one may ever have the disk and run.
func (v *vm) alone() error {
	if v.before == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(v.life, startLimit)
	defer cancel()
	select {
	case <-v.before:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of the VMM before: %w", context.Cause(ctx))
	}
}

func (v *vm) notResumed(c command, err error, ran bool) {
	if end, doomed := v.doomedBy(); doomed {
		v.end(end, end.reason())
		return
	}
	v.logFailure("resume", c, err)
	if ran {
		c.detail = reasonResumeLost
		v.end(c, reasonResumeLost)
		return
	}
	c.detail = reasonNotResumed
	e := v.event(c, "resume")
	e.Subject, e.From, e.To, e.At = v.id, store.VMSuspended, store.VMSuspended, v.m.clock.Now()
	if err := v.m.cfg.Records.AddEvent(context.Background(), e); err != nil {
		v.logFailure("record of a failed resume", c, err)
	}
	v.show(v.view.Load().rec, nil, err)
}
