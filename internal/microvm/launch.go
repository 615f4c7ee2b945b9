package microvm

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
)

// launch brings a PENDING microVM to RUNNING, or to TERMINATED with the reason.
func (v *vm) launch(c command) {
	phases := telemetry.Begin(v.m.clock, "queue")
	s, reply, err := v.firstStart(phases)
	if err != nil {
		v.notLaunched(c, err)
		return
	}
	if reason := hookFailure("Run", v.version.Config.Hooks.Run, reply.Hook); reason != "" {
		c.cause = causeHook
		v.watch(s) // what the app has to say about it
		v.endSession(c, s, reason)
		return
	}
	v.serve(c, "launch", s, phases, nil)
	v.m.loose.Go(v.syncFolder)
	v.m.pool.use(v.image)
}

func (v *vm) notLaunched(c command, err error) {
	if end, doomed := v.doomedBy(); doomed {
		v.end(end, end.reason())
		return
	}
	v.logFailure("launch", c, err)
	c.detail = reasonLaunch
	if errors.Is(err, errClosing) {
		c.cause, c.detail = causeShutdown, reasonInterrupted
	}
	v.end(c, c.detail)
}

func (v *vm) firstStart(phases *telemetry.Phases) (running, guest.RestoreReply, error) {
	release, err := v.m.admit(v.life, v.m.closing)
	if err != nil {
		return nil, guest.RestoreReply{}, err
	}
	defer release()
	if err := os.Mkdir(v.dir, 0o700); err != nil {
		return nil, guest.RestoreReply{}, fmt.Errorf("make the microVM's folder: %w", err)
	}
	from := v.origin()
	from.request.Hostname = v.id
	if _, err := rand.Read(from.request.MachineID[:]); err != nil {
		return nil, guest.RestoreReply{}, fmt.Errorf("make a machine id: %w", err)
	}
	if hook := v.version.Config.Hooks.Run; hook.Enabled {
		from.request.Hook = hookRequest("run", v.version.Config.Hooks.Port, hook)
		if from.request.Hook.Body, err = runHookBody(v.view.Load().rec); err != nil {
			return nil, guest.RestoreReply{}, err
		}
	}
	return v.m.starter.start(v.life, from, phases)
}

// origin is what launches and resumes of this microVM have in common.
func (v *vm) origin() origin {
	return origin{image: v.image, disk: v.disk(), network: v.guestNetwork(), owner: v.id, failed: v.collect}
}

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
// follows. Should the daemon die between the two, the next one ends a VM that was being launched,
// which nobody was told is RUNNING, and adopts one that was being resumed.
func (v *vm) serve(c command, operation string, s running, phases *telemetry.Phases, wakeErr error) {
	v.generation++
	v.touch()
	rec := v.view.Load().rec
	from := rec.State
	rec.State, rec.StateReason, rec.SuspendedAt = store.VMRunning, "", time.Time{}
	v.show(rec, s, wakeErr)
	e := v.event(c, operation)
	e.Subject, e.From, e.To, e.Phases, e.At = v.id, from, rec.State, phases.End(), v.m.clock.Now()
	if err := v.record(rec, e); err != nil {
		v.logFailure(operation, c, err)
		v.unrecorded = &e
	}
	v.watch(s)
}
