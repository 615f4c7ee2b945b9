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
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// launcher turns snapshots into running guests. Launches, resumes, validation VMs and builders
// all go through start: a launch is a resume with no pages to put back.
type launcher struct {
	driver vmm.Driver
	runs   string // folder of run folders
	pool   *pool
}

// origin is what a guest starts from.
type origin struct {
	image      *snapshot.Image
	checkpoint string // file; "" starts from the image itself
	disk       string // this guest's writable disk
	network    netstack.Config
	request    guest.RestoreRequest // but for Secret
	owner      string               // microVM id, so that a restarted daemon can adopt it; "" for helpers
	// beforeRun is called when everything is loaded and the guest is about to run; from then on the
	// disk may change, so the checkpoint cannot be gone back to.
	beforeRun func() error
}

// starter starts guests; it is the launcher, but for tests of the actor.
type starter interface {
	start(ctx context.Context, from origin, phases *telemetry.Phases) (running, guest.RestoreReply, error)
}

// running is one stretch of running of a guest, between a launch or resume and a suspend or end,
// as the actor of its microVM sees it.
type running interface {
	hook(ctx context.Context, request guest.HookRequest) (guest.HookReply, error)
	forward(ctx context.Context, port uint16) (net.Conn, error)
	events(ctx context.Context) iter.Seq2[guest.Event, error]
	pause(ctx context.Context) error
	goOn(ctx context.Context) error
	checkpointTo(ctx context.Context, path, disk string) (dirty int64, err error)
	vmmDone() <-chan struct{}     // the VMM has ended
	networkDone() <-chan struct{} // the guest cannot be reached any more
	end()
}

var (
	_ starter = (*launcher)(nil)
	_ running = (*session)(nil)
)

// session is a running guest: a machine, its network, and a client of its agent.
type session struct {
	machine vmm.Machine
	stack   *netstack.Stack
	client  *guest.Client
	run     string                 // run folder
	secret  [guest.SecretSize]byte // of the agent
}

// start makes a guest run again as itself: its clock, random pool, names and secret are its own,
// and its run or resume hook was called, when it returns. What the hook answered is in the reply.
func (l *launcher) start(ctx context.Context, from origin, phases *telemetry.Phases) (running, guest.RestoreReply, error) {
	s, reply, err := l.startSession(ctx, from, phases)
	if err != nil {
		return nil, reply, err
	}
	return s, reply, nil
}

func (l *launcher) startSession(ctx context.Context, from origin, phases *telemetry.Phases) (*session, guest.RestoreReply, error) {
	if from.checkpoint == "" {
		phases.Next("disk")
		if err := snapshot.Clone(from.image.Path(snapshot.DiskFile), from.disk); err != nil {
			return nil, guest.RestoreReply{}, err
		}
	}
	phases.Next("vmm")
	prepared, err := l.pool.take(ctx, from.image)
	if err != nil {
		return nil, guest.RestoreReply{}, err
	}
	s := &session{machine: prepared.machine, run: prepared.run}
	reply, err := s.begin(ctx, from, phases)
	if err != nil {
		s.end()
		return nil, reply, err
	}
	return s, reply, nil
}

func (s *session) begin(ctx context.Context, from origin, phases *telemetry.Phases) (reply guest.RestoreReply, err error) {
	if err := s.machine.AttachData(ctx, from.disk); err != nil {
		return reply, err
	}
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
		return reply, err
	}
	reply, err = s.client.Restore(ctx, from.request)
	phases.Split("hook", reply.HookRan)
	return reply, err
}

// load fills memory and devices and returns the secret the agent has in that state.
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
	notes, err := snapshot.LoadCheckpoint(file, memory.Size(), memory, state)
	if err != nil {
		return secret, err
	}
	if _, err := state.Seek(0, io.SeekStart); err != nil {
		return secret, fmt.Errorf("rewind the device state: %w", err)
	}
	copy(secret[:], notes)
	return secret, s.machine.Load(ctx, state)
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

// end takes everything away that the session has, but for the guest's disk.
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

func (s *session) pause(ctx context.Context) error { return s.machine.Pause(ctx) }
func (s *session) goOn(ctx context.Context) error  { return s.machine.Resume(ctx) }
func (s *session) vmmDone() <-chan struct{}        { return s.machine.Done() }
func (s *session) networkDone() <-chan struct{}    { return s.stack.Done() }

// anonymousFile is a file in memory that can be passed to a VMM.
func anonymousFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// newRun makes an empty run folder with a name of its own.
func newRun(runs string) (string, error) {
	dir, err := os.MkdirTemp(runs, "")
	if err != nil {
		return "", fmt.Errorf("make a run folder: %w", err)
	}
	return dir, nil
}

// machineConfig describes the machine an image snapshot fits into.
func machineConfig(image *snapshot.Image, run string) vmm.Config {
	return vmm.Config{
		Dir: run, CPUs: image.Machine.CPUs, MemoryMiB: image.Machine.MemoryMiB,
		Memory: image.Path(snapshot.MemoryFile), Root: image.Path(snapshot.RootFile), DataBytes: image.Machine.DiskBytes,
	}
}

// checkpointTo writes a paused guest's device state and dirty pages to path. The disk is made
// durable meanwhile: whoever finds the checkpoint must find the disk that belongs to it.
func (s *session) checkpointTo(ctx context.Context, path, disk string) (dirty int64, err error) {
	synced := make(chan error, 1)
	go func() { synced <- syncFile(disk) }()
	writer, err := s.writeCheckpoint(ctx, path)
	if diskErr := <-synced; err == nil && diskErr != nil {
		writer.Abort()
		err = fmt.Errorf("sync the guest's disk: %w", diskErr)
	}
	if err != nil {
		return 0, err
	}
	return writer.DirtyBytes, writer.Commit()
}

func (s *session) writeCheckpoint(ctx context.Context, path string) (*snapshot.CheckpointWriter, error) {
	state, err := s.deviceState(ctx)
	if err != nil {
		return nil, err
	}
	memory, err := s.machine.Memory()
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	extents, err := memory.Dirty()
	if err != nil {
		return nil, err
	}
	writer, err := snapshot.NewCheckpoint(path, memory.Size(), s.secret[:], state)
	if err != nil {
		return nil, err
	}
	for _, e := range extents {
		if err := writer.Add(memory, snapshot.Run{Page: e.Page, Count: e.Count}); err != nil {
			writer.Abort()
			return nil, err
		}
	}
	return writer, nil
}

// deviceState has the VMM write its devices' state into memory: the checkpoint holds it.
func (s *session) deviceState(ctx context.Context) ([]byte, error) {
	file, err := anonymousFile("device-state")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// A VMM gets the file for writing only; /proc/self/fd opens the same memory again.
	writeOnly, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the device state: %w", err)
	}
	defer writeOnly.Close()
	if err := s.machine.SaveState(ctx, writeOnly); err != nil {
		return nil, err
	}
	state, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("read the device state: %w", err)
	}
	if len(state) == 0 {
		return nil, errors.New("the VMM saved no device state")
	}
	return state, nil
}

func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.Fdatasync(int(file.Fd()))
}

// vmDir is the folder of what a microVM owns on disk.
func vmDir(root, id string) string { return filepath.Join(root, id) }
