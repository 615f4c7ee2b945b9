// Package qemu drives QEMU's microvm machine as a VMM: one process per machine, no helper processes, everything passed by file descriptor.
package qemu

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// Accelerator says how guest code is run.
type Accelerator string

const (
	KVM Accelerator = "kvm" // hardware virtualization
	TCG Accelerator = "tcg" // software emulation: for development and CI, not a security boundary
)

// Driver starts QEMU processes.
type Driver struct {
	binary      string
	version     string
	accelerator Accelerator
}

var _ vmm.Driver = (*Driver)(nil)

var versionLine = regexp.MustCompile(`version (\d+\.\d+\.\d+[^\n]*)`)

// New finds QEMU ("" = the host architecture's qemu-system on PATH) and asks it for its version.
func New(ctx context.Context, binary string, accelerator Accelerator) (*Driver, error) {
	if binary == "" {
		binary = "qemu-system-x86_64"
	}
	path, err := exec.LookPath(binary)
	if err != nil {
		return nil, fmt.Errorf("find QEMU (run `make setup`): %w", err)
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask QEMU for its version: %w", err)
	}
	match := versionLine.FindSubmatch(out)
	if match == nil {
		return nil, fmt.Errorf("ask QEMU for its version: unexpected answer %q", strings.SplitN(string(out), "\n", 2)[0])
	}
	if accelerator == TCG {
		_ = withoutHugePages() // with them launches are only slower
	}
	return &Driver{binary: path, version: string(match[1]), accelerator: accelerator}, nil
}

// Accelerator is how this driver's machines run guest code.
func (d *Driver) Accelerator() Accelerator { return d.accelerator }

// Identity implements vmm.Driver.
func (d *Driver) Identity() string {
	return fmt.Sprintf("qemu %s, microvm devices %d, %s, cpu %s", d.version, devices, d.accelerator, d.cpuModel())
}

// cpuModel is QEMU's -cpu. Emulation runs "rep movsb" one byte at a time, but says that it is fast (ERMS,
// FSRM); kernel, C libraries and Go then copy and clear memory with it. Without these flags they move 8 bytes at
// least in a step: a byte through a guest's network costs a third less CPU time (25-36 against 15-29 ms per MiB).
func (d *Driver) cpuModel() string {
	if d.accelerator == KVM {
		return "host"
	}
	return "max,-erms,-fsrm"
}

// Boot implements vmm.Driver.
func (d *Driver) Boot(ctx context.Context, cfg vmm.Config) (vmm.Machine, error) {
	return d.start(ctx, cfg, boot)
}

// Prepare implements vmm.Driver.
func (d *Driver) Prepare(ctx context.Context, cfg vmm.Config) (vmm.Machine, error) {
	return d.start(ctx, cfg, prepare)
}

func (d *Driver) start(ctx context.Context, cfg vmm.Config, mode mode) (vmm.Machine, error) {
	process, err := spawn(d.binary, d.arguments(cfg, mode), cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	// At once: a daemon that ends from here on leaves a QEMU that the next one finds.
	if err := writeIdentity(cfg, process.pid); err != nil {
		_ = process.kill()
		return nil, fmt.Errorf("start QEMU: %w%s", err, process.lastWords())
	}
	monitor, err := connectMonitor(ctx, cfg.Dir, process.done)
	if err != nil {
		_ = process.kill()
		return nil, fmt.Errorf("start QEMU: %w%s", err, process.lastWords())
	}
	m := &machine{dir: cfg.Dir, memory: cfg.Memory, memoryMiB: cfg.MemoryMiB, process: process, monitor: monitor}
	if mode == prepare {
		// Without this capability QEMU does not tell when loading has ended.
		if err := m.setCapability(ctx, "events"); err != nil {
			_ = m.Kill()
			return nil, fmt.Errorf("start QEMU: %w", err)
		}
	}
	if cfg.Ahead && d.accelerator == TCG {
		_ = m.warmTranslator() // without it this machine is only slower
	}
	return m, nil
}
