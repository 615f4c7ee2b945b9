package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// process is one QEMU process, a child of this daemon or of an earlier one.
type process struct {
	pid    int
	dir    string
	handle *os.Process   // a pidfd inside: it never means a later process of the same number
	done   chan struct{} // closed when it has ended
}

// spawn starts QEMU in its own session, with the run folder as working folder, so that it
// outlives a daemon that crashes and the next one can adopt it.
func spawn(binary string, args []string, dir string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(dir, vmm.LogFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), binary, args...) // it is killed, not cancelled
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid, dir: dir, handle: cmd.Process, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// kill may be called more than once, and while the process ends by itself.
func (p *process) kill() error {
	if err := p.handle.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill QEMU %d: %w", p.pid, err)
	}
	<-p.done
	return nil
}

// lastWords is the end of what QEMU printed, for error messages.
func (p *process) lastWords() string {
	log, err := os.Open(filepath.Join(p.dir, vmm.LogFile))
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
