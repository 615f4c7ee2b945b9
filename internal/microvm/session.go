package microvm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// session is a running guest: a machine, its network, and a client of its agent.
type session struct {
	machine vmm.Machine
	stack   *netstack.Stack
	client  *guest.Client
	run     string                 // run folder
	secret  [guest.SecretSize]byte // of the agent
	read    int64                  // bytes of the VMM's log that were read

	diskless bool // the machine has yet to get the guest's disk
}

// errNeverRan means that the VMM refused to let a loaded guest run: nothing has changed since.
var errNeverRan = errors.New("the guest has not run")

func (s *session) begin(ctx context.Context, from origin, phases *telemetry.Phases) (reply guest.RestoreReply, err error) {
	phases.Next("load")
	baked, err := s.load(ctx, from)
	if err != nil {
		return reply, err
	}
	if err := s.connect(ctx, from.network, baked); err != nil {
		return reply, err
	}
	if _, err := rand.Read(from.request.Secret[:]); err != nil {
		return reply, fmt.Errorf("make the agent's secret: %w", err)
	}
	if _, err := rand.Read(from.request.Entropy[:]); err != nil {
		return reply, fmt.Errorf("make entropy: %w", err)
	}
	s.secret = from.request.Secret
	if err := writeOwner(s.run, ownership{MicroVM: from.owner, Secret: s.secret[:], Before: baked[:]}); err != nil {
		return reply, err
	}
	if from.beforeRun != nil {
		if err := from.beforeRun(); err != nil {
			return reply, err
		}
	}
	phases.Next("agent")
	if err := s.machine.Resume(ctx); err != nil {
		if paused, pausedErr := s.machine.Paused(ctx); pausedErr == nil && paused {
			err = fmt.Errorf("%w: %w", errNeverRan, err)
		}
		return reply, err
	}
	reply, err = s.client.Restore(ctx, from.request)
	phases.Split("hook", reply.HookRan)
	return reply, err
}

// load fills memory and devices, attaches the disk, and returns the secret the agent has in that state.
func (s *session) load(ctx context.Context, from origin) (secret [guest.SecretSize]byte, err error) {
	if from.checkpoint == "" {
		state, err := os.Open(from.image.Path(snapshot.StateFile))
		if err != nil {
			return secret, fmt.Errorf("open the device state: %w", err)
		}
		defer state.Close()
		copy(secret[:], from.image.Secret)
		return secret, s.machine.Load(ctx, state)
	}
	file, err := os.Open(from.checkpoint)
	if err != nil {
		return secret, fmt.Errorf("open the checkpoint: %w", err)
	}
	defer file.Close()
	memory, err := s.machine.Memory()
	if err != nil {
		return secret, err
	}
	defer memory.Close()
	state, err := anonymousFile("device-state")
	if err != nil {
		return secret, err
	}
	defer state.Close()
	attached := s.attach(ctx, from.disk) // while pages are put back, which is the host's work alone
	notes, err := snapshot.LoadCheckpoint(readerOf(ctx, file), memory.Size(), memory, state)
	if err := errors.Join(<-attached, err); err != nil {
		return secret, err
	}
	if _, err := state.Seek(0, io.SeekStart); err != nil {
		return secret, fmt.Errorf("rewind the device state: %w", err)
	}
	copy(secret[:], notes)
	return secret, s.machine.Load(ctx, state)
}

// attach begins to put the guest's disk into a machine that has another one yet.
func (s *session) attach(ctx context.Context, disk string) <-chan error {
	done := make(chan error, 1)
	if !s.diskless {
		done <- nil
		return done
	}
	go func() {
		err := s.machine.AttachData(ctx, disk)
		if err == nil {
			_ = os.Remove(prepared{run: s.run}.disk()) // what stays goes with the run folder
		}
		done <- err
	}()
	return done
}

// connect gives the guest its network and the daemon a client of its agent.
func (s *session) connect(ctx context.Context, network netstack.Config, secret [guest.SecretSize]byte) error {
	card, err := s.machine.Network(ctx)
	if err != nil {
		return err
	}
	if s.stack, err = netstack.New(card, network); err != nil {
		card.Close()
		return fmt.Errorf("start the guest's network: %w", err)
	}
	s.client = guest.New(s.stack.DialGuest, secret)
	return nil
}

// end takes everything away that the session has, but for the guest's disk. It may be called again.
func (s *session) end() {
	_ = s.machine.Kill()
	if s.stack != nil {
		_ = s.stack.Close()
	}
	_ = os.RemoveAll(s.run)
}

func (s *session) hook(ctx context.Context, request guest.HookRequest) (guest.HookReply, error) {
	return s.client.Hook(ctx, request)
}

func (s *session) forward(ctx context.Context, port uint16) (net.Conn, error) {
	return s.client.Forward(ctx, port)
}

func (s *session) events(ctx context.Context) iter.Seq2[guest.Event, error] {
	return s.client.Events(ctx)
}

func (s *session) exec(ctx context.Context, request guest.ExecRequest) (*guest.Process, error) {
	return s.client.Exec(ctx, request)
}

func (s *session) pause(ctx context.Context) error { return s.machine.Pause(ctx) }
func (s *session) goOn(ctx context.Context) error  { return s.machine.Resume(ctx) }
func (s *session) vmmPID() int                     { return s.machine.PID() }
func (s *session) vmmDone() <-chan struct{}        { return s.machine.Done() }
func (s *session) networkDone() <-chan struct{}    { return s.stack.Done() }

func (s *session) counters() netstack.Counters {
	if s.stack == nil {
		return netstack.Counters{}
	}
	return s.stack.Counters()
}
