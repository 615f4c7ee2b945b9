package microvm

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
)

// adopt goes on with the VMM of an earlier daemon, if this microVM has one.
func (v *vm) adopt(c command) {
	left := v.survivor
	if left == nil {
		return
	}
	v.survivor = nil
	phases := telemetry.Begin(v.m.clock, "queue")
	s, err := v.takeOver(left, phases)
	if err != nil {
		if end, doomed := v.doomedBy(); doomed {
			v.endSession(end, left, end.reason())
			return
		}
		v.logFailure("adoption", c, err)
		v.endSession(c, left, reasonNotAdopted)
		return
	}
	// The guest runs: there is nothing to go back to.
	for _, path := range []string{v.checkpoint(), v.resuming()} {
		_ = os.Remove(path)
	}
	_ = snapshot.RemoveUnfinished(v.checkpoint())
	if rec := v.view.Load().rec; rec.State == store.VMRunning {
		v.generation++
		v.show(rec, s, nil)
		v.watch(s)
		return
	}
	v.serve(c, "resume", s, phases, nil)
}

func (v *vm) takeOver(left *survivor, phases *telemetry.Phases) (running, error) {
	release, err := v.m.admit(v.life, nil)
	if err != nil {
		return nil, err
	}
	defer release()
	phases.Next("agent")
	var hook guest.HookRequest
	if resume := v.version.Config.Hooks.Resume; resume.Enabled && v.state() != store.VMRunning {
		// It may have been told that it sleeps, and perhaps already that it woke; hooks may be repeated.
		hook = hookRequest("resume", v.version.Config.Hooks.Port, resume)
	}
	return v.m.starter.adopt(v.life, left, v.guestNetwork(), hook)
}

// adopt connects to a survivor's network and agent and lets its guest run. When it fails the
// survivor is still there, to be ended.
func (l *launcher) adopt(ctx context.Context, s *survivor, network netstack.Config, hook guest.HookRequest) (running, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit+hook.Timeout)
	defer cancel()
	if err := s.connect(ctx, network, s.secret); err != nil {
		return nil, err
	}
	if err := s.machine.Resume(ctx); err != nil {
		return nil, err
	}
	request := guest.RestoreRequest{Secret: s.secret, Hook: hook}
	if _, err := rand.Read(request.Entropy[:]); err != nil {
		return nil, fmt.Errorf("make entropy: %w", err)
	}
	_, err := s.client.Restore(ctx, request)
	if err == nil {
		return &s.session, nil
	}
	// The earlier daemon may have ended before the agent was told its new secret.
	s.client = guest.New(s.stack.DialGuest, s.before)
	if _, err := s.client.Restore(ctx, request); err != nil {
		return nil, err
	}
	return &s.session, nil
}
