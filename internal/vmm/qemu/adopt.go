package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// identity is what a later daemon needs to take over a running QEMU. A process id alone may
// have been given to another process since; with the start time it is unique until a reboot.
type identity struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // clock ticks since boot, /proc/PID/stat field 22
	Memory    string `json:"memory"`
	MemoryMiB int    `json:"memoryMiB"`
}

const identityFile = "vmm.json"

// Adopt implements vmm.Driver.
func (d *Driver) Adopt(ctx context.Context, dir string) (vmm.Machine, error) {
	process, id, err := findProcess(dir)
	if err != nil {
		return nil, fmt.Errorf("adopt QEMU in %s: %w", dir, errors.Join(err, killStrays(dir)))
	}
	monitor, err := connectMonitor(ctx, dir, process.done)
	if err != nil {
		// Nobody can talk to it any more, so nobody else would end it.
		return nil, fmt.Errorf("adopt QEMU in %s: %w", dir, errors.Join(err, process.kill()))
	}
	return &machine{dir: dir, memory: id.Memory, memoryMiB: id.MemoryMiB, process: process, monitor: monitor}, nil
}

func writeIdentity(cfg vmm.Config, pid int) error {
	start, err := startTime(pid)
	if err != nil {
		return err
	}
	text, err := json.Marshal(identity{PID: pid, StartTime: start, Memory: cfg.Memory, MemoryMiB: cfg.MemoryMiB})
	if err != nil {
		return err
	}
	// Not synced: after a crash of the host there is no process to adopt.
	temporary := filepath.Join(cfg.Dir, identityFile+".tmp")
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(cfg.Dir, identityFile))
}

// findProcess finds the QEMU that was started in dir, if it still runs.
func findProcess(dir string) (*process, identity, error) {
	var id identity
	text, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, id, vmm.ErrExited
	}
	if err != nil {
		return nil, id, err
	}
	if err := json.Unmarshal(text, &id); err != nil {
		return nil, id, fmt.Errorf("read %s: %w", identityFile, err)
	}
	// The handles come first: whatever process they stand for, the check of the start time is about the same one.
	pidfd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return nil, id, vmm.ErrExited
	}
	handle, err := os.FindProcess(id.PID)
	if err == nil {
		var start uint64
		if start, err = startTime(id.PID); err == nil && start == id.StartTime {
			p := &process{pid: id.PID, dir: dir, handle: handle, done: make(chan struct{})}
			go p.awaitEnd(pidfd)
			return p, id, nil
		}
		_ = handle.Release()
	}
	unix.Close(pidfd)
	return nil, id, vmm.ErrExited
}

// awaitEnd closes done when a process ends that is not our child.
func (p *process) awaitEnd(pidfd int) {
	defer close(p.done)
	defer unix.Close(pidfd)
	ended(pidfd, -1)
}

func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command name in parentheses may hold anything; fields count from behind it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// killStrays ends the processes that work in dir. A daemon that was killed right after it had
// started QEMU left one without an identity file, and nobody else would ever end it.
func killStrays(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return err
	}
	var failed []error
	for _, link := range processes {
		if where, err := os.Readlink(link); err != nil || where != dir {
			continue // also: ended meanwhile, or of another user
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		failed = append(failed, killStray(pid, link, dir))
	}
	return errors.Join(failed...)
}

// strayLimit is how long a killed process may take to end, in milliseconds; it gives memory back.
const strayLimit = 10_000

func killStray(pid int, link, dir string) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end process %d in %s: %w", pid, dir, err)
	}
	defer unix.Close(pidfd)
	// Again, now that the handle is bound to one process.
	if where, err := os.Readlink(link); err != nil || where != dir {
		return nil
	}
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end process %d in %s: %w", pid, dir, err)
	}
	if !ended(pidfd, strayLimit) {
		return fmt.Errorf("process %d in %s does not end", pid, dir)
	}
	return nil
}

// ended waits until a process ends, for some milliseconds, or as long as it takes (-1).
func ended(pidfd, milliseconds int) bool {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, milliseconds)
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}
