package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
)

const (
	daemonLog    = "daemon.log"
	daemonLogOld = "daemon.log.1"
	// maxDaemonLog is the size in bytes from which a start, or the daemon itself, begins another log.
	maxDaemonLog = 16 << 20
	// startTail is how many lines of the log tell why a start failed.
	startTail = 8
)

// background is the daemon of a data folder, seen from outside.
type background struct {
	dir    string
	screen *terminal.Screen

	serving int        // process id of the daemon that start started, or that serves already
	exited  chan error // set by start; of size 1
	begin   int64      // length of the log before the start, in bytes
}

func (b *background) logFile() string { return filepath.Join(b.dir, daemonLog) }

// pid is the process that serves from the folder, 0 if none does: the one that holds its lock. A daemon
// writes its process id an instant after it has taken the lock.
func (b *background) pid() (pid int, err error) {
	const tries, between = 10, 20 * time.Millisecond
	for range tries {
		if pid, err = b.holder(); err == nil {
			break
		}
		time.Sleep(between)
	}
	return pid, err
}

// holder is what the lock says now.
func (b *background) holder() (int, error) {
	lock, err := os.OpenFile(filepath.Join(b.dir, lockFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	// A shared lock, so that two that look do not take each other for the daemon.
	switch err := unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return 0, nil
	case !errors.Is(err, unix.EWOULDBLOCK):
		return 0, fmt.Errorf("look at the lock of %s: %w", b.dir, err)
	}
	text := make([]byte, 20)
	n, _ := lock.ReadAt(text, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("a daemon of another version serves from %s: end it by hand", b.dir)
	}
	if !hasOpen(pid, lock.Name()) {
		return 0, fmt.Errorf("the daemon of %s is not to be seen from here (process %d of another container or user?): end it there", b.dir, pid)
	}
	return pid, nil
}

// hasOpen tells whether a process has a file open, so that none is ended for another with its number.
func hasOpen(pid int, file string) bool {
	file, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == file {
			return true
		}
	}
	return false
}

// start starts the daemon as a process that outlives this one.
func (b *background) start(arguments []string) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	log, err := b.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(binary, arguments...) //nolint:noctx // it outlives this process
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	b.serving, b.exited = cmd.Process.Pid, make(chan error, 1)
	go func() { b.exited <- cmd.Wait() }()
	return nil
}

// openLog appends to the log, or begins another when it is long.
func (b *background) openLog() (*os.File, error) {
	if info, err := os.Stat(b.logFile()); err == nil {
		b.begin = info.Size()
		if b.begin > maxDaemonLog {
			if err := os.Rename(b.logFile(), filepath.Join(b.dir, daemonLogOld)); err != nil {
				return nil, err
			}
			b.begin = 0
		}
	}
	return openLogFile(b.logFile())
}

// ended tells whether the daemon that was started has ended; true if none was.
func (b *background) ended() bool {
	if b.exited == nil {
		return true
	}
	select {
	case err := <-b.exited:
		b.exited <- err
		return true
	default:
		return false
	}
}

// failedToStart says why, in the daemon's own words.
func (b *background) failedToStart() error {
	text, err := os.ReadFile(b.logFile())
	if err != nil {
		return fmt.Errorf("the daemon ended: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(text[min(b.begin, int64(len(text))):])), "\n")
	lines = lines[max(0, len(lines)-startTail):]
	for i, line := range lines { // an error that it ended with is its last word
		if strings.HasPrefix(line, "dormouse: ") {
			lines = lines[i:]
			break
		}
	}
	return &failure{errors.New("the daemon ended:\n    " + strings.Join(lines, "\n    ")), "its log: " + b.logFile()}
}
