package microvm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// BootConfig is what guests are booted with, once per image; launches restore a snapshot instead.
type BootConfig struct {
	Kernel string // file
	Initrd string // file, holds the agent
	// InitrdAll is Initrd with the kernel modules of guests with all capabilities.
	InitrdAll string
	TSCkHz    int // frequency of the host's time stamp counter for guests under emulation, 0 = let the guest measure
}

// A boot takes 2-4 s under software emulation; on a loaded machine we have seen 20 s, and once
// in 16 boots a silent hang, which a second try gets over.
const (
	bootLimit = 60 * time.Second
	bootTries = 2
	// agentRetry paces dials to an agent that does not listen yet.
	agentRetry = 20 * time.Millisecond
)

// guestSpec is a guest to boot: its machine, its network and its app.
type guestSpec struct {
	dir     string // gets memory and disk; holds the root file system
	size    Size
	app     guest.BootRequest
	network netstack.Config
	log     io.Writer
	modules bool // all of them, for a guest with all capabilities; the builder needs no more than others
}

// boot starts a guest from its kernel and its app in it. The session's secret is the one to bake
// into a snapshot.
func (m *Manager) boot(ctx context.Context, spec guestSpec) (*session, error) {
	var failed []error
	for try := range bootTries {
		s, err := m.tryBoot(ctx, spec)
		var refused guest.AgentError
		if err == nil || errors.As(err, &refused) || ctx.Err() != nil {
			return s, err
		}
		fmt.Fprintf(spec.log, "boot: try %d: %v\n", try+1, err)
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

func (m *Manager) tryBoot(ctx context.Context, spec guestSpec) (*session, error) {
	if err := makeDisk(ctx, filepath.Join(spec.dir, snapshot.DiskFile), spec.size.DiskBytes); err != nil {
		return nil, err
	}
	if err := makeSparse(filepath.Join(spec.dir, snapshot.MemoryFile), int64(spec.size.MemoryMiB)<<20); err != nil {
		return nil, fmt.Errorf("make guest memory: %w", err)
	}
	run, err := newRun(m.runsDir())
	if err != nil {
		return nil, err
	}
	var first [guest.SecretSize]byte // until the agent is told another
	if _, err := rand.Read(first[:]); err != nil {
		return nil, err
	}
	initrd := m.cfg.Boot.Initrd
	if spec.modules {
		initrd = m.cfg.Boot.InitrdAll
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	machine, err := m.cfg.Driver.Boot(ctx, vmm.Config{
		Dir: run, CPUs: spec.size.CPUs, MemoryMiB: spec.size.MemoryMiB,
		Memory: filepath.Join(spec.dir, snapshot.MemoryFile), Root: filepath.Join(spec.dir, snapshot.RootFile),
		Data:   filepath.Join(spec.dir, snapshot.DiskFile),
		Kernel: m.cfg.Boot.Kernel, Initrd: initrd, CommandLine: guest.CommandLine(first, m.cfg.Boot.TSCkHz),
	})
	if err != nil {
		os.RemoveAll(run)
		return nil, err
	}
	s := &session{machine: machine, run: run}
	if err := m.startApp(ctx, s, spec, first); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (m *Manager) startApp(ctx context.Context, s *session, spec guestSpec, first [guest.SecretSize]byte) error {
	if err := s.connect(ctx, spec.network, first); err != nil {
		return err
	}
	if _, err := rand.Read(s.secret[:]); err != nil {
		return err
	}
	app := spec.app
	app.Secret = s.secret[:]
	for {
		app.UnixNanos = m.clock.Now().UnixNano()
		err := s.client.Boot(ctx, app)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return s.explain(ctx, err)
		}
		// The guest has its network and the agent does not listen yet.
		select {
		case <-ctx.Done():
			return s.explain(ctx, err)
		case <-m.clock.After(agentRetry):
		}
	}
}

// explain adds the end of the serial console to an error of a guest that did not come up.
func (s *session) explain(ctx context.Context, err error) error {
	var refused guest.AgentError
	if err == nil || errors.As(err, &refused) {
		return err
	}
	console, consoleErr := s.machine.Console(context.WithoutCancel(ctx))
	if consoleErr != nil {
		return err
	}
	const most = 2 << 10 // bytes
	return fmt.Errorf("%w; the guest's console ends with: %q", err, console[max(0, len(console)-most):])
}

// makeDisk makes the writable disk: ext4 without a journal, because a disk never outlives the
// memory that goes with it, and with its tables left to be written lazily, so that it stays small.
func makeDisk(ctx context.Context, path string, size int64) error {
	if err := makeSparse(path, size); err != nil {
		return fmt.Errorf("make the disk: %w", err)
	}
	program, err := exec.LookPath("mke2fs")
	if err != nil {
		program = "/usr/sbin/mke2fs" // not on an ordinary user's PATH
	}
	out, err := exec.CommandContext(ctx, program, "-q", "-F", "-t", "ext4",
		"-O", "^has_journal,^resize_inode,^huge_file", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make the disk: %w: %s", err, out)
	}
	return nil
}

func makeSparse(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Truncate(size)
}
