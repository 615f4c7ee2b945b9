package microvm

import (
	"context"
	"errors"
	"os"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
)

// resume wakes a SUSPENDED microVM from its checkpoint. If that fails before the guest ran, it
// stays SUSPENDED as it was; afterwards its state is lost, and it says so.
func (v *vm) resume(ctx context.Context, c command) {
	switch v.view.Load().rec.State {
	case store.VMSuspended:
	case store.VMRunning, store.VMPending:
		c.accept(nil)
		return
	default:
		c.accept(ErrConflict)
		return
	}
	c.accept(nil)
	phases := telemetry.Begin(v.m.clock, "queue")
	ran := false
	s, reply, err := v.restart(ctx, phases, &ran)
	if err != nil {
		v.notResumed(c, err, ran)
		return
	}
	if reason := hookFailure("Resume", v.version.Config.Hooks.Resume, reply.Hook); reason != "" {
		// The app's state is whole, so the VM lives; whoever waited for this wake learns of it
		// (spec/behaviour.md 5: the first request may get 502).
		v.logFailure("resume hook", c, errors.New(reason))
		c.detail = reason
		rec := v.view.Load().rec
		v.show(rec, nil, errors.New(reason))
	}
	v.serve(c, s, phases)
	_ = os.Remove(v.resuming())
	v.m.launcher.pool.use(v.image)
}

func (v *vm) restart(ctx context.Context, phases *telemetry.Phases, ran *bool) (running, guest.RestoreReply, error) {
	release, err := v.m.admit(ctx)
	if err != nil {
		return nil, guest.RestoreReply{}, err
	}
	defer release()
	from := v.origin()
	from.checkpoint = v.checkpoint()
	from.beforeRun = func() error {
		*ran = true
		return os.Rename(v.checkpoint(), v.resuming())
	}
	if hook := v.version.Config.Hooks.Resume; hook.Enabled {
		from.request.Hook = hookRequest("resume", v.version.Config.Hooks.Port, hook)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit+from.request.Hook.Timeout)
	defer cancel()
	return v.m.starter.start(ctx, from, phases)
}

func (v *vm) notResumed(c command, err error, ran bool) {
	v.logFailure("resume", c, err)
	c.detail = err.Error()
	if ran {
		v.end(c, reasonResumeLost)
		return
	}
	e := v.event(c, "resume")
	e.Subject, e.From, e.To, e.At = v.id, store.VMSuspended, store.VMSuspended, v.m.clock.Now()
	if err := v.m.cfg.Records.AddEvent(context.Background(), e); err != nil {
		v.logFailure("resume", c, err)
	}
	v.show(v.view.Load().rec, nil, err)
}
