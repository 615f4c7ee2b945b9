package microvm

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
)

// startLimit bounds everything of a launch or resume but the hook. Under software emulation on a
// loaded machine a restore takes some hundred milliseconds.
const startLimit = 60 * time.Second

// launch brings a PENDING microVM to RUNNING, or to TERMINATED with the reason.
func (v *vm) launch(ctx context.Context, c command) {
	phases := telemetry.Begin(v.m.clock, "queue")
	s, reply, err := v.firstStart(ctx, phases)
	if err != nil {
		v.logFailure("launch", c, err)
		c.detail = err.Error()
		reason := reasonLaunch
		if errors.Is(context.Cause(ctx), errTerminating) {
			reason = reasonSuccess
		}
		v.end(c, reason)
		return
	}
	if reason := hookFailure("Run", v.version.Config.Hooks.Run, reply.Hook); reason != "" {
		c.cause = causeHook
		v.endSession(c, s, reason)
		return
	}
	v.serve(c, s, phases)
	v.m.launcher.pool.use(v.image)
}

func (v *vm) firstStart(ctx context.Context, phases *telemetry.Phases) (running, guest.RestoreReply, error) {
	release, err := v.m.admit(ctx)
	if err != nil {
		return nil, guest.RestoreReply{}, err
	}
	defer release()
	if err := os.Mkdir(v.dir, 0o700); err != nil {
		return nil, guest.RestoreReply{}, fmt.Errorf("make the microVM's folder: %w", err)
	}
	from := v.origin()
	from.request.Hostname = v.hostname()
	if _, err := rand.Read(from.request.MachineID[:]); err != nil {
		return nil, guest.RestoreReply{}, fmt.Errorf("make a machine id: %w", err)
	}
	if hook := v.version.Config.Hooks.Run; hook.Enabled {
		from.request.Hook = hookRequest("run", v.version.Config.Hooks.Port, hook)
		if from.request.Hook.Body, err = runHookBody(v.view.Load().rec); err != nil {
			return nil, guest.RestoreReply{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit+from.request.Hook.Timeout)
	defer cancel()
	return v.m.starter.start(ctx, from, phases)
}

// origin is what launches and resumes of this microVM have in common.
func (v *vm) origin() origin {
	network := v.m.cfg.Network
	network.Policy = egressPolicy(v.view.Load().rec.EgressConnectors, network.Policy)
	return origin{image: v.image, disk: v.disk(), network: network, owner: v.id}
}

// hostname is the part of the id that differs, so that it fits in 64 characters and says which VM it is.
func (v *vm) hostname() string { return v.id }

// runHookBody is spec/behaviour.md 5: the payload stays the string it was.
func runHookBody(rec store.MicroVM) ([]byte, error) {
	body := struct {
		MicrovmID string  `json:"microvmId"`
		Payload   *string `json:"runHookPayload,omitempty"`
	}{MicrovmID: rec.ID}
	if rec.HasPayload {
		body.Payload = &rec.RunHookPayload
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode the run hook's body: %w", err)
	}
	return text, nil
}

func hookRequest(name string, port int, hook store.Hook) guest.HookRequest {
	return guest.HookRequest{Name: name, Port: port, Timeout: hook.Timeout}
}

// hookFailure is the stateReason of a hook that did not answer 200, "" if all is well. The first
// text is the live service's; that of a timeout follows its build-time form (spec/behaviour.md 2.1).
func hookFailure(name string, hook store.Hook, reply guest.HookReply) string {
	switch {
	case !hook.Enabled || reply.Status == 200:
		return ""
	case reply.TimedOut:
		return fmt.Sprintf("%s hook invocation timed out after %s", name, isoDuration(hook.Timeout))
	case reply.Status != 0:
		return fmt.Sprintf("%s lifecycle hook returned HTTP status %d. Please check your hook endpoint and application logs for more details.", name, reply.Status)
	default:
		return fmt.Sprintf("%s lifecycle hook could not be called. Please check your hook endpoint and application logs for more details.", name)
	}
}

// serve makes a started session the microVM's own: requests go through at once, and the record
// follows. Should the daemon crash between the two, it finds the VMM and adopts it.
func (v *vm) serve(c command, s running, phases *telemetry.Phases) {
	v.generation++
	v.touch()
	rec := v.view.Load().rec
	from := rec.State
	operation := "resume"
	if from == store.VMPending {
		operation = "launch"
	}
	rec.State, rec.StateReason, rec.SuspendedAt = store.VMRunning, "", time.Time{}
	v.show(rec, s, nil)
	e := v.event(c, operation)
	e.Subject, e.From, e.To, e.Phases, e.At = v.id, from, rec.State, phases.End(), v.m.clock.Now()
	if err := v.m.cfg.Records.TransitionMicroVM(context.Background(), rec, from, e); err != nil {
		v.logFailure(operation, c, err)
	}
	v.watch(s)
}

// egressPolicy maps egress connectors (spec/behaviour.md 6) to what the guest may reach. The
// template says which private ranges this installation allows at all.
func egressPolicy(connectors []string, template netstack.Policy) netstack.Policy {
	policy := netstack.Policy{}
	for _, connector := range connectors {
		if isInternetEgress(connector) {
			policy.Internet = true
			policy.AllowPrivate = template.AllowPrivate
		}
	}
	return policy
}
