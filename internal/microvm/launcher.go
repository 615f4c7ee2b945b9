package microvm

import (
	"context"
	"fmt"
	"iter"
	"net"
	"os"
	"time"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// launcher turns snapshots into running guests. Launches, resumes, validation VMs and builders
// all go through start: a launch is a resume with no pages to put back.
type launcher struct{ pool *pool }

// startLimit bounds everything of a launch or resume but the hook. Under software emulation on a
// loaded machine a restore takes some hundred milliseconds.
const startLimit = 60 * time.Second

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
	// failed is called with a session that did not come to run its guest, before it is ended; may be nil.
	failed func(s running)
}

// starter starts guests; it is the launcher, but for tests of the actor.
type starter interface {
	start(ctx context.Context, from origin, phases *telemetry.Phases) (running, guest.RestoreReply, error)
	adopt(ctx context.Context, s *survivor, network netstack.Config, hook guest.HookRequest) (running, error)
}

// running is one stretch of running of a guest, between a launch or resume and a suspend or end,
// as the actor of its microVM sees it.
type running interface {
	hook(ctx context.Context, request guest.HookRequest) (guest.HookReply, error)
	forward(ctx context.Context, port uint16) (net.Conn, error)
	events(ctx context.Context) iter.Seq2[guest.Event, error]
	exec(ctx context.Context, request guest.ExecRequest) (*guest.Process, error)
	pause(ctx context.Context) error
	goOn(ctx context.Context) error
	checkpointTo(ctx context.Context, path, disk string) (dirty int64, err error)
	console(ctx context.Context) ([]byte, error) // what came on the serial console since the last time
	printed() ([]byte, error)                    // what the VMM printed since the last time
	vmmPID() int
	counters() netstack.Counters
	vmmDone() <-chan struct{}     // the VMM has ended
	networkDone() <-chan struct{} // the guest cannot be reached any more
	end()                         // may be called again
}

var (
	_ starter = (*launcher)(nil)
	_ running = (*session)(nil)
)

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
	limit := startLimit + from.request.Hook.Timeout
	if from.checkpoint != "" {
		limit += saveLimit // what could be written in that time can be read in it
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := l.machine(ctx, from, phases)
	if err != nil {
		return nil, guest.RestoreReply{}, err
	}
	reply, err := s.begin(ctx, from, phases)
	if err != nil {
		if from.failed != nil {
			from.failed(s)
		}
		s.end()
		return nil, reply, err
	}
	return s, reply, nil
}

// machine returns a session with a VMM that waits for device state, from the pool or started now. Only
// a resume with one of the pool has yet to attach the guest's disk.
func (l *launcher) machine(ctx context.Context, from origin, phases *telemetry.Phases) (*session, error) {
	waiting, ok := l.pool.take(from.image)
	if from.checkpoint == "" {
		phases.Next("disk")
		if err := l.newDisk(ctx, from, waiting, ok); err != nil {
			return nil, err
		}
	}
	phases.Next("vmm")
	if ok {
		return &session{machine: waiting.machine, run: waiting.run, diskless: from.checkpoint != ""}, nil
	}
	started, err := l.pool.start(ctx, from.image, from.disk)
	if err != nil {
		return nil, err
	}
	return &session{machine: started.machine, run: started.run}, nil
}

// newDisk makes the disk of a guest that starts from its image: the one that a waiting VMM has, or
// another copy of the image's.
func (l *launcher) newDisk(ctx context.Context, from origin, waiting prepared, ok bool) error {
	if !ok {
		return snapshot.Clone(ctx, from.image.Path(snapshot.DiskFile), from.disk)
	}
	if err := os.Rename(waiting.disk(), from.disk); err != nil {
		waiting.discard()
		return fmt.Errorf("take the disk of a waiting VMM: %w", err)
	}
	return nil
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
		Memory: image.Path(snapshot.MemoryFile), Root: image.Path(snapshot.RootFile),
	}
}
