package microvm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
)

// BakeSpec is an image version to make a snapshot of.
type BakeSpec struct {
	// Dir holds snapshot.RootFile and gets the other files of the snapshot.
	Dir              string
	App              guest.BootRequest // but for Secret, UnixNanos and Hostname
	Size             Size
	Hooks            store.Hooks
	EgressConnectors []string
	Identity         Identity          // of the build, which has the build role
	Log              io.Writer         // what the app writes, and how it went
	Phase            func(name string) // boot, ready, snapshot, validate
	Warn             func(text string) // what its builder should know of, although it is no failure
}

// BakeError is a failure that lies in the image; its text is for users (spec/behaviour.md 4.2).
type BakeError struct{ Reason string }

func (e *BakeError) Error() string { return e.Reason }

const (
	// hookPoll is how often /ready and /validate are asked; the live interval is unknown
	// (spec/behaviour.md 19).
	hookPoll = 200 * time.Millisecond
	// settleTime is how long an app without a ready hook gets to listen on settlePort before the
	// snapshot is taken anyway.
	settleTime = 10 * time.Second
	settlePort = 8080
	// calmDown is how long a guest gets to finish what quiescing it began (delayed work, closing
	// connections): every VM of the image would do it again, first thing after its launch.
	calmDown = 300 * time.Millisecond
)

// Bake boots an image's root file system, starts its app, waits until that is ready, and takes
// the image snapshot; then a VM is started from it for /validate and thrown away. Nothing is left
// running. Errors are *BakeError where the image is to blame.
func (m *Manager) Bake(ctx context.Context, spec BakeSpec) (*snapshot.Image, error) {
	spec.Phase("boot")
	network := m.bakeNetwork(ctx, spec)
	spec.App.Hostname = "microvm"
	s, err := m.boot(ctx, guestSpec{dir: spec.Dir, size: spec.Size, app: spec.App, network: network, log: spec.Log, modules: spec.App.AllCapabilities})
	var refused guest.AgentError
	if errors.As(err, &refused) {
		return nil, &BakeError{"The application could not be started: " + string(refused)}
	}
	if err != nil {
		return nil, err
	}
	image, err := m.snapshotReady(ctx, s, spec)
	s.end()
	if err != nil {
		return nil, err
	}
	if spec.Hooks.Validate.Enabled {
		spec.Phase("validate")
		if err := m.validate(ctx, image, spec); err != nil {
			return nil, err
		}
	}
	return image, nil
}

// bakeNetwork is the network of the guests that an image is made with.
func (m *Manager) bakeNetwork(ctx context.Context, spec BakeSpec) netstack.Config {
	network := m.cfg.Network
	network.Policy, network.Denied = m.egress(ctx, spec.EgressConnectors), noteDenials(spec.Warn)
	return identified(network, m.metadata(spec.Identity))
}

// snapshotReady waits for the app and takes the snapshot.
func (m *Manager) snapshotReady(ctx context.Context, s *session, spec BakeSpec) (*snapshot.Image, error) {
	spec.Phase("ready")
	watching, stop := context.WithCancel(ctx)
	app := m.follow(watching, s, spec.Log, 0)
	err := m.awaitReady(ctx, s, spec, app)
	m.hearOut(ctx, app)
	stop()
	<-app.drained
	if err != nil {
		return nil, err
	}
	spec.Phase("snapshot")
	return m.take(ctx, s, spec.Dir, spec.Size, app.logged)
}

// take makes the image snapshot of a running guest, of whose app's output so many bytes were logged.
func (m *Manager) take(ctx context.Context, s *session, dir string, size Size, logged int64) (*snapshot.Image, error) {
	if err := s.client.Quiesce(ctx); err != nil {
		return nil, err
	}
	if err := s.rehearse(ctx); err != nil {
		return nil, err
	}
	select {
	case <-m.clock.After(calmDown):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := s.machine.Pause(ctx); err != nil {
		return nil, err
	}
	state, err := os.OpenFile(filepath.Join(dir, snapshot.StateFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the device state: %w", err)
	}
	defer state.Close()
	if err := s.machine.SaveState(ctx, state); err != nil {
		return nil, err
	}
	if err := s.machine.Kill(); err != nil {
		return nil, err
	}
	machine := m.cfg.Present
	machine.CPUs, machine.MemoryMiB, machine.DiskBytes = size.CPUs, size.MemoryMiB, size.DiskBytes
	return snapshot.Seal(dir, snapshot.Manifest{CreatedAt: m.clock.Now().UTC(), Machine: machine, Secret: s.secret[:], LoggedBytes: logged})
}

// rehearse puts a running guest through a restore, so that the first real one finds everything it
// needs made: kernel objects, the agent's memory and stacks, names of the length they will have.
func (s *session) rehearse(ctx context.Context) error {
	request := guest.RestoreRequest{Secret: s.secret, Hostname: "microvm-" + uuid.Nil.String()}
	for _, random := range [][]byte{request.MachineID[:], request.Entropy[:]} {
		if _, err := rand.Read(random); err != nil {
			return fmt.Errorf("rehearse a restore: %w", err)
		}
	}
	if _, err := s.client.Restore(ctx, request); err != nil {
		return fmt.Errorf("rehearse a restore: %w", err)
	}
	return nil
}

// follower passes on what the app writes and remembers how it ended.
type follower struct {
	code    chan int // of size 1
	drained chan struct{}
	logged  int64 // bytes of output, those before included; to be read once it is drained
	hearing
}

// hearOut returns when what the app has written by now was passed on, as far as one can tell.
func (m *Manager) hearOut(ctx context.Context, f *follower) {
	began := m.clock.Now().UnixNano()
	for !f.upToDate(began, m.clock.Now().UnixNano()) {
		select {
		case <-m.clock.After(catchUpPoll):
		case <-f.drained:
			return
		case <-ctx.Done():
			return
		}
	}
}

// follow logs what the app writes after so many bytes, until ctx ends.
func (m *Manager) follow(ctx context.Context, s *session, log io.Writer, logged int64) *follower {
	f := &follower{code: make(chan int, 1), drained: make(chan struct{}), logged: logged}
	go func() {
		defer close(f.drained)
		var position int64
		f.opened.Store(m.clock.Now().UnixNano())
		for event, err := range s.client.Events(ctx) {
			if err == nil {
				f.heard.Store(m.clock.Now().UnixNano())
			}
			switch {
			case err != nil:
				return
			case event.Log != nil:
				position += event.Log.Dropped
				data := event.Log.Data
				if end := position + int64(len(data)); end > f.logged {
					_, _ = log.Write(data[max(0, min(f.logged-position, int64(len(data)))):])
					f.logged = end
				}
				position += int64(len(data))
			case event.Exit != nil:
				select {
				case f.code <- event.Exit.Code:
				default: // an app ends once, but a guest may say anything
				}
			}
		}
	}()
	return f
}

// awaitReady polls /ready, or lets an app without that hook settle.
func (m *Manager) awaitReady(ctx context.Context, s *session, spec BakeSpec, app *follower) error {
	if !spec.Hooks.Ready.Enabled {
		return m.settle(ctx, s, spec, app)
	}
	return m.pollHook(ctx, s, "Ready", spec.Hooks.Port, spec.Hooks.Ready, app)
}

// pollHook asks until the hook answers 200. 503 and a port nobody listens on mean "ask again";
// any other answer is final (spec/behaviour.md 5).
func (m *Manager) pollHook(ctx context.Context, s *session, name string, port int, hook store.Hook, app *follower) error {
	deadline := m.clock.Now().Add(hook.Timeout)
	request := guest.HookRequest{Name: map[string]string{"Ready": "ready", "Validate": "validate"}[name], Port: port}
	for {
		request.Timeout = deadline.Sub(m.clock.Now())
		if request.Timeout <= 0 {
			return &BakeError{fmt.Sprintf("%s hook invocation timed out after %s", name, isoDuration(hook.Timeout))}
		}
		reply, err := s.client.Hook(ctx, request)
		if err != nil {
			return err
		}
		switch status := reply.Status; {
		case status == 200:
			return nil
		case status >= 500 && status != 503:
			return &BakeError{name + " hook check failed: the application returned a server error (HTTP 5xx) response"}
		case status >= 400 && status < 500:
			return &BakeError{name + " hook check failed: the application returned a client error (HTTP 4xx) response"}
		case status != 0 && status != 503:
			return &BakeError{fmt.Sprintf("%s hook check failed: the application returned HTTP %d", name, status)}
		}
		select {
		case code := <-app.code:
			return exitedEarly(code)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.clock.After(hookPoll):
		}
	}
}

func exitedEarly(code int) error {
	return &BakeError{fmt.Sprintf("The application exited with code %d before it was ready", code)}
}

// settle waits until the app listens on its default port, or for settleTime.
func (m *Manager) settle(ctx context.Context, s *session, spec BakeSpec, app *follower) error {
	settled, cancel := context.WithTimeoutCause(ctx, settleTime, errSettled)
	defer cancel()
	err := m.awaitPort(settled, s, settlePort, app)
	if ctx.Err() == nil && errors.Is(context.Cause(settled), errSettled) {
		spec.Warn(fmt.Sprintf("nothing listened on port %d within %s; the snapshot is taken anyway", settlePort, settleTime))
		return nil
	}
	return err
}

var errSettled = errors.New("the app had time to settle")

// awaitPort waits until something listens on a port of the guest's loopback.
func (m *Manager) awaitPort(ctx context.Context, s *session, port uint16, app *follower) error {
	for {
		if up, err := s.client.Listens(ctx, port); up || err != nil {
			return err
		}
		select {
		case code := <-app.code:
			return exitedEarly(code)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.clock.After(hookPoll):
		}
	}
}

// validate starts a VM from the new snapshot, polls /validate in it, and throws it away.
func (m *Manager) validate(ctx context.Context, image *snapshot.Image, spec BakeSpec) error {
	network := m.bakeNetwork(ctx, spec)
	disk := filepath.Join(spec.Dir, "validate.img")
	defer os.Remove(disk)
	phases := telemetry.Begin(m.clock, "disk")
	s, _, err := m.launcher.startSession(ctx, origin{image: image, disk: disk, network: network}, phases)
	if err != nil {
		return err
	}
	defer s.end()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	app := m.follow(watching, s, spec.Log, image.LoggedBytes)
	err = m.pollHook(ctx, s, "Validate", spec.Hooks.Port, spec.Hooks.Validate, app)
	m.hearOut(ctx, app)
	stop()
	<-app.drained // nothing may be logged behind the end of the build
	return err
}

// isoDuration writes whole seconds as the live service does: PT30S, PT5M, PT1H.
func isoDuration(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("PT%dH", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("PT%dM", d/time.Minute)
	case d > time.Minute:
		return fmt.Sprintf("PT%dM%dS", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("PT%dS", d/time.Second)
	}
}
