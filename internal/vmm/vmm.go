// Package vmm is the seam to virtual machine monitors: what a driver must do to boot, restore, checkpoint and adopt one machine.
package vmm

import (
	"context"
	"errors"
	"net"
	"os"
)

// ErrExited means the VMM process is gone, so nothing can be asked of the machine any more.
var ErrExited = errors.New("the VMM process has exited")

// LogFile is the name of the file in a machine's run folder that the VMM prints to.
const LogFile = "vmm.log"

// Config describes one machine. Every machine restored from a snapshot must be described as
// the one the snapshot was taken of, but for Dir and Data.
type Config struct {
	Dir       string // run folder, private to this machine: sockets, process id, VMM log
	CPUs      int
	MemoryMiB int
	Memory    string // file that holds guest memory
	Root      string // read-only disk, a file
	Data      string // writable disk, a file; one put there by AttachData has the same size

	// Ahead: nobody waits for this machine yet, so whatever makes it faster later may take its time.
	Ahead bool

	// Only a boot needs these; a restored guest has its kernel in memory.
	Kernel      string
	Initrd      string
	CommandLine string
}

// Driver makes machines of one kind of VMM.
type Driver interface {
	// Identity names the VMM, its version, machine type and CPU model. A snapshot loads only
	// under the identity it was saved under.
	Identity() string
	// Boot starts a machine from its kernel, running. Guest memory is shared with the file
	// Config.Memory, so that once the machine is paused the file is the memory snapshot.
	Boot(ctx context.Context, cfg Config) (Machine, error)
	// Prepare starts a VMM that waits for Load. It maps Config.Memory privately, copy on write:
	// all machines of one image share its page cache, and none changes the file.
	Prepare(ctx context.Context, cfg Config) (Machine, error)
	// Adopt takes over the machine whose VMM an earlier daemon left running in dir.
	// It returns ErrExited if there is none. After any error no VMM runs there.
	Adopt(ctx context.Context, dir string) (Machine, error)
}

// Machine is one VMM process. Its methods are not safe for concurrent use, but for Memory, Done, Kill and PID.
type Machine interface {
	// AttachData puts another file behind the writable disk of a prepared machine that has not loaded
	// yet, and lets go of Config.Data.
	AttachData(ctx context.Context, path string) error
	// Memory gives access to guest memory. Pages of a checkpoint go in before Load, because
	// loading the device state reads the virtqueues in guest memory.
	Memory() (*Memory, error)
	// Load reads device state into a prepared machine and leaves it paused.
	Load(ctx context.Context, state *os.File) error
	// Resume lets the guest run.
	Resume(ctx context.Context) error
	// Pause stops the guest and flushes its disks into the host's page cache.
	Pause(ctx context.Context) error
	// Paused tells whether the guest is stopped.
	Paused(ctx context.Context) (bool, error)
	// SaveState writes the device state of a paused machine, without guest memory, to the file.
	SaveState(ctx context.Context, state *os.File) error
	// Network connects to the guest's network card: frames with a length of 4 bytes before each.
	// One connection at a time; a new one is possible after the old one was closed.
	Network(ctx context.Context) (net.Conn, error)
	// Console returns what the guest wrote to its serial console since the last call, of which the
	// VMM keeps the newest 64 KiB.
	Console(ctx context.Context) ([]byte, error)
	// PID is the VMM's process id.
	PID() int
	// Done is closed when the VMM process has ended.
	Done() <-chan struct{}
	// Kill ends the VMM at once and returns when it has ended. It may be called again.
	Kill() error
}
