package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// process is one QEMU process, a child of this daemon or of an earlier one.
type process struct {
	pid  int
	dir  string
	done chan struct{} // closed when it has ended
}

// spawn starts QEMU in its own session, with the run folder as working folder, so that it
// outlives a daemon that crashes and the next one can adopt it.
func spawn(binary string, args []string, dir string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid, dir: dir, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) kill() error {
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill QEMU %d: %w", p.pid, err)
	}
	<-p.done
	return nil
}

// lastWords is the end of what QEMU printed, for error messages.
func (p *process) lastWords() string {
	log, err := os.Open(filepath.Join(p.dir, logFile))
	if err != nil {
		return ""
	}
	defer log.Close()
	const most = 1 << 10 // bytes
	if info, err := log.Stat(); err == nil && info.Size() > most {
		_, _ = log.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(log, most))
	if len(text) == 0 {
		return ""
	}
	return "; QEMU says: " + strings.TrimSpace(string(text))
}

// identity is what a later daemon needs to take over a running QEMU. A process id alone may
// have been given to another process since; with the start time it is unique until a reboot.
type identity struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // clock ticks since boot, /proc/PID/stat field 22
	Memory    string `json:"memory"`
	MemoryMiB int    `json:"memoryMiB"`
}

const identityFile = "vmm.json"

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
	// The pidfd comes first: whatever process it stands for, the check of the start time is about the same one.
	pidfd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return nil, id, vmm.ErrExited
	}
	if start, err := startTime(id.PID); err != nil || start != id.StartTime {
		unix.Close(pidfd)
		return nil, id, vmm.ErrExited
	}
	p := &process{pid: id.PID, dir: dir, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer unix.Close(pidfd)
		poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for {
			if n, err := unix.Poll(poll, -1); n > 0 || err != nil && err != unix.EINTR {
				return
			}
		}
	}()
	return p, id, nil
}

func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command name in parentheses may hold anything; fields count from behind it.
	_, rest, found := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 || fields[0] == "Z" {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
