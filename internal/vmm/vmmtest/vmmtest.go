// Package vmmtest is a VMM for tests: its machines have memory and no guest, and tests see and spoil every step.
package vmmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// Driver makes machines that are processes in name only.
type Driver struct {
	// PrepareError, if set, is asked before every Prepare.
	PrepareError func() error
	// Spoil, if set, is called with every machine that is made.
	Spoil func(*Machine)

	mu       sync.Mutex
	machines []*Machine
	left     map[string]*Machine
}

var _ vmm.Driver = (*Driver)(nil)

// Identity implements vmm.Driver.
func (d *Driver) Identity() string { return "vmmtest 1" }

// Boot implements vmm.Driver.
func (d *Driver) Boot(_ context.Context, cfg vmm.Config) (vmm.Machine, error) {
	return d.add(NewMachine(cfg)), nil
}

// Prepare implements vmm.Driver.
func (d *Driver) Prepare(ctx context.Context, cfg vmm.Config) (vmm.Machine, error) {
	if d.PrepareError != nil {
		if err := d.PrepareError(); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return d.add(NewMachine(cfg)), nil
}

// Adopt implements vmm.Driver: it finds what Leave left.
func (d *Driver) Adopt(ctx context.Context, dir string) (vmm.Machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.left[dir]
	if m == nil {
		return nil, vmm.ErrExited
	}
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, m.Kill())
	}
	return m, nil
}

// Leave makes a machine the one that an earlier daemon left running in dir.
func (d *Driver) Leave(dir string, m *Machine) *Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left == nil {
		d.left = map[string]*Machine{}
	}
	d.left[dir] = m
	return m
}

func (d *Driver) add(m *Machine) *Machine {
	if d.Spoil != nil {
		d.Spoil(m)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.machines = append(d.machines, m)
	return m
}

// Machines are all that were ever made, in order.
func (d *Driver) Machines() []*Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*Machine(nil), d.machines...)
}

// Alive counts the machines that were made and have not ended.
func (d *Driver) Alive() (n int) {
	for _, m := range d.Machines() {
		select {
		case <-m.done:
		default:
			n++
		}
	}
	return n
}

// Machine is a VMM in this process: guest memory is a private mapping of Config.Memory.
type Machine struct {
	Config vmm.Config
	// Fail has the error of each method that is to fail, by name; Hang the methods that answer
	// only when their context ends. Both are set before the machine is used.
	Fail map[string]error
	Hang map[string]bool
	// State is what SaveState writes; Loaded what Load has read.
	State, Loaded []byte
	// Card is what Network returns.
	Card net.Conn

	done chan struct{}
	once sync.Once

	mu      sync.Mutex
	calls   []string
	running bool
	mapping []byte
}

var _ vmm.Machine = (*Machine)(nil)

// NewMachine makes a machine that is paused.
func NewMachine(cfg vmm.Config) *Machine { return &Machine{Config: cfg, done: make(chan struct{})} }

// step records a call, and fails or hangs where the test wants it.
func (m *Machine) step(ctx context.Context, name string) error {
	m.mu.Lock()
	m.calls = append(m.calls, name)
	m.mu.Unlock()
	if m.Hang[name] {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-m.done:
		return vmm.ErrExited
	default:
		return m.Fail[name]
	}
}

// Calls are the names of the methods that were called, in order.
func (m *Machine) Calls() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.calls...)
}

// Mapped is guest memory as the guest sees it.
func (m *Machine) Mapped() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mapping != nil {
		return m.mapping, nil
	}
	file, err := os.Open(m.Config.Memory)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	m.mapping, err = unix.Mmap(int(file.Fd()), 0, m.Config.MemoryMiB<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	return m.mapping, err
}

// AttachData implements vmm.Machine.
func (m *Machine) AttachData(ctx context.Context, _ string) error { return m.step(ctx, "AttachData") }

// Memory implements vmm.Machine.
func (m *Machine) Memory() (*vmm.Memory, error) {
	if err := m.step(context.Background(), "Memory"); err != nil {
		return nil, err
	}
	if _, err := m.Mapped(); err != nil {
		return nil, err
	}
	return vmm.OpenMemory(os.Getpid(), m.Config.Memory, uint64(m.Config.MemoryMiB)<<20)
}

// Load implements vmm.Machine.
func (m *Machine) Load(ctx context.Context, state *os.File) (err error) {
	if err := m.step(ctx, "Load"); err != nil {
		return err
	}
	m.Loaded, err = io.ReadAll(state)
	return err
}

// Resume implements vmm.Machine.
func (m *Machine) Resume(ctx context.Context) error { return m.move(ctx, "Resume", true) }

// Pause implements vmm.Machine.
func (m *Machine) Pause(ctx context.Context) error { return m.move(ctx, "Pause", false) }

func (m *Machine) move(ctx context.Context, name string, running bool) error {
	if err := m.step(ctx, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = running
	return nil
}

// Paused implements vmm.Machine.
func (m *Machine) Paused(ctx context.Context) (bool, error) {
	err := m.step(ctx, "Paused")
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.running, err
}

// SaveState implements vmm.Machine.
func (m *Machine) SaveState(ctx context.Context, state *os.File) error {
	if err := m.step(ctx, "SaveState"); err != nil {
		return err
	}
	_, err := state.Write(m.State)
	return err
}

// Network implements vmm.Machine.
func (m *Machine) Network(ctx context.Context) (net.Conn, error) {
	if err := m.step(ctx, "Network"); err != nil {
		return nil, err
	}
	if m.Card == nil {
		return nil, fmt.Errorf("the machine has no guest")
	}
	return m.Card, nil
}

// Console implements vmm.Machine.
func (m *Machine) Console(ctx context.Context) ([]byte, error) { return nil, m.step(ctx, "Console") }

// PID implements vmm.Machine.
func (m *Machine) PID() int { return os.Getpid() }

// Done implements vmm.Machine.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Kill implements vmm.Machine.
func (m *Machine) Kill() error {
	m.once.Do(func() {
		close(m.done)
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.mapping != nil {
			_ = unix.Munmap(m.mapping)
			m.mapping = nil
		}
	})
	return nil
}
