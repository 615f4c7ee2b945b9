package qemu

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// machine is a QEMU process with its monitor.
type machine struct {
	dir       string
	memory    string // file
	memoryMiB int
	process   *process
	monitor   *monitor
}

var _ vmm.Machine = (*machine)(nil)

type object map[string]any

// Descriptors are passed into numbered sets, which QEMU opens as files named /dev/fdset/N.
const (
	dataSet  = 1
	stateSet = 2
)

// withSet passes file to QEMU for the time of use.
func (m *machine) withSet(ctx context.Context, set int, file *os.File, use func(path string) error) error {
	if err := m.monitor.execute(ctx, "add-fd", object{"fdset-id": set}, nil, file); err != nil {
		return err
	}
	err := use(fmt.Sprintf("/dev/fdset/%d", set))
	// Also after a failure: QEMU would open this file again for the next one in the set.
	return errors.Join(err, m.monitor.execute(ctx, "remove-fd", object{"fdset-id": set}, nil))
}

// AttachData implements vmm.Machine.
func (m *machine) AttachData(ctx context.Context, path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("attach the disk: %w", err)
	}
	defer file.Close()
	err = m.withSet(ctx, dataSet, file, func(path string) error {
		add := object{"driver": "file", "node-name": attachedNode, "filename": path, "locking": "off", "discard": "unmap", "cache": object{"no-flush": true}}
		if err := m.monitor.execute(ctx, "blockdev-add", add, nil); err != nil {
			return err
		}
		reopen := object{"options": []object{{"driver": "raw", "node-name": dataNode, "discard": "unmap", "file": attachedNode}}}
		if err := m.monitor.execute(ctx, "blockdev-reopen", reopen, nil); err != nil {
			return err
		}
		// A node that cannot be deleted only keeps its file open until the process ends.
		_ = m.monitor.execute(ctx, "blockdev-del", object{"node-name": dataFileNode}, nil)
		return nil
	})
	if err != nil {
		return fmt.Errorf("attach the disk: %w", err)
	}
	return nil
}

// Memory implements vmm.Machine.
func (m *machine) Memory() (*vmm.Memory, error) {
	file, err := filepath.EvalSymlinks(m.memory)
	if err != nil {
		return nil, err
	}
	return vmm.OpenMemory(m.process.pid, file, uint64(m.memoryMiB)<<20)
}

func (m *machine) setCapability(ctx context.Context, name string) error {
	return m.monitor.execute(ctx, "migrate-set-capabilities",
		object{"capabilities": []object{{"capability": name, "state": true}}}, nil)
}

// Load implements vmm.Machine.
func (m *machine) Load(ctx context.Context, state *os.File) error {
	if err := m.monitor.execute(ctx, "getfd", object{"fdname": "state"}, nil, state); err != nil {
		return fmt.Errorf("load device state: %w", err)
	}
	if err := m.monitor.execute(ctx, "migrate-incoming", object{"uri": "fd:state"}, nil); err != nil {
		return fmt.Errorf("load device state: %w", err)
	}
	end, err := m.monitor.await(ctx, func(e event) bool {
		return e.Name == "MIGRATION" && (e.Data.Status == "completed" || e.Data.Status == "failed")
	})
	if err != nil {
		return fmt.Errorf("load device state: %w%s", err, m.process.lastWords())
	}
	if end.Data.Status == "failed" {
		return fmt.Errorf("load device state: QEMU refused it%s", m.process.lastWords())
	}
	return nil
}

// Resume implements vmm.Machine.
func (m *machine) Resume(ctx context.Context) error {
	return m.monitor.execute(ctx, "cont", nil, nil)
}

// Pause implements vmm.Machine.
func (m *machine) Pause(ctx context.Context) error {
	return m.monitor.execute(ctx, "stop", nil, nil)
}

// Paused implements vmm.Machine.
func (m *machine) Paused(ctx context.Context) (bool, error) {
	var status struct {
		Running bool `json:"running"`
	}
	err := m.monitor.execute(ctx, "query-status", nil, &status)
	return !status.Running, err
}

// SaveState implements vmm.Machine. The command's name is historical: it saves every device and leaves memory out, Xen or not.
func (m *machine) SaveState(ctx context.Context, state *os.File) error {
	err := m.withSet(ctx, stateSet, state, func(path string) error {
		return m.monitor.execute(ctx, "xen-save-devices-state", object{"filename": path, "live": false}, nil)
	})
	if err != nil {
		return fmt.Errorf("save device state: %w", err)
	}
	return nil
}

// Network implements vmm.Machine.
func (m *machine) Network(ctx context.Context) (net.Conn, error) {
	conn, err := dialSocket(ctx, m.dir, networkSocket, m.process.done)
	if err != nil {
		return nil, fmt.Errorf("connect to the network card: %w", err)
	}
	return conn, nil
}

// Console implements vmm.Machine.
func (m *machine) Console(ctx context.Context) ([]byte, error) {
	var text string
	arguments := object{"device": consoleID, "size": consoleBytes, "format": "base64"}
	if err := m.monitor.execute(ctx, "ringbuf-read", arguments, &text); err != nil {
		return nil, fmt.Errorf("read the serial console: %w", err)
	}
	return base64.StdEncoding.DecodeString(text)
}

// PID implements vmm.Machine.
func (m *machine) PID() int { return m.process.pid }

// Done implements vmm.Machine.
func (m *machine) Done() <-chan struct{} { return m.process.done }

// Kill implements vmm.Machine.
func (m *machine) Kill() error {
	err := m.process.kill()
	m.monitor.conn.Close()
	return err
}
