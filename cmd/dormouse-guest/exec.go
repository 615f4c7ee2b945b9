package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

var (
	errNoApp     = errors.New("the app has ended")
	errManyExecs = fmt.Errorf("%d processes run already that were started from outside", guest.MaxExecs)
)

// terminalKind is what programs are told of the terminal (spec/behaviour.md 9).
const terminalKind = "TERM=xterm"

// process is one that the host started beside the app, the leader of a session of its own.
type process struct {
	pid    int // in the agent's namespace
	exit   <-chan unix.WaitStatus
	tty    bool     // it has a terminal
	stdin  *os.File // with a terminal, its master, as stdout
	stdout *os.File
	stderr *os.File // nil with a terminal
}

// exec starts a process in the app's container. It returns when its program was executed, or why not.
func (a *app) exec(r *guest.ExecRequest) (*process, error) {
	target, err := a.target()
	if err != nil {
		return nil, err
	}
	defer target.close()
	spec, err := target.spec(r)
	if err != nil {
		return nil, err
	}
	p := &process{tty: r.TTY}
	theirs, err := p.open(r, target)
	defer closeAll(theirs)
	if err == nil {
		err = a.startExec(p, target, spec, theirs)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// execTarget is the app as another process that is to be put beside it sees it.
type execTarget struct {
	app    *guest.BootRequest
	pidfd  int
	root   *imageRoot
	cgroup string // below cgroupRoot
}

func (a *app) target() (*execTarget, error) {
	a.mu.Lock() // so that the app is not reaped, and its number used again
	defer a.mu.Unlock()
	if a.pid == 0 || a.boot == nil {
		return nil, errNoApp
	}
	proc := fmt.Sprintf("/proc/%d", a.pid)
	lines, err := os.ReadFile(proc + "/cgroup")
	if err != nil {
		return nil, err
	}
	_, cgroup, _ := strings.Cut(strings.TrimSpace(string(lines)), "::")
	t := &execTarget{app: a.boot, cgroup: cgroup}
	if t.root, err = openImageRoot(proc + "/root"); err != nil {
		return nil, err
	}
	if t.pidfd, err = unix.PidfdOpen(a.pid, 0); err != nil {
		t.root.close()
		return nil, err
	}
	return t, nil
}

func (t *execTarget) close() {
	t.root.close()
	unix.Close(t.pidfd)
}

// spec is what to run: as root, whoever the app runs as (spec/behaviour.md 9).
func (t *execTarget) spec(r *guest.ExecRequest) (*execSpec, error) {
	root, err := resolveUser(t.root, "")
	if err != nil {
		return nil, err
	}
	env := slices.Clone(t.app.Env)
	if r.TTY {
		env = append(env, terminalKind)
	}
	return &execSpec{
		Args: r.Args, Env: appEnvironment(env, root.Home), Dir: t.app.Dir, User: root,
		AllCapabilities: t.app.AllCapabilities, Cgroup: t.cgroup,
	}, nil
}

// open makes what the process is spoken to through, and returns its side: stdin, stdout, stderr.
func (p *process) open(r *guest.ExecRequest, t *execTarget) (theirs []int, err error) {
	if r.TTY {
		return p.openTerminal(r, t.root)
	}
	for i, ours := range []**os.File{&p.stdin, &p.stdout, &p.stderr} {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			return theirs, err
		}
		their, our := ends[0], ends[1]
		if i > 0 {
			their, our = our, their
		}
		theirs = append(theirs, their)
		_ = unix.SetNonblock(our, true)
		*ours = os.NewFile(uintptr(our), "pipe")
	}
	return theirs, nil
}

// openTerminal opens a terminal of the app's own /dev/pts, so that it has a name there. The path is the
// app's to change: what is opened in place of a terminal fails at the first request.
func (p *process) openTerminal(r *guest.ExecRequest, root *imageRoot) (theirs []int, err error) {
	master, err := root.open("dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	p.stdin = os.NewFile(uintptr(master), "terminal")
	p.stdout = p.stdin
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return nil, fmt.Errorf("open the terminal's other side: %w", errno)
	}
	theirs = []int{int(slave)}
	if r.Cols != 0 || r.Rows != 0 {
		return theirs, p.resize(r.Cols, r.Rows)
	}
	return theirs, nil
}

func (p *process) resize(cols, rows uint16) error {
	if !p.tty {
		return nil
	}
	master, err := p.stdin.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = master.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows})
	})
	return errors.Join(err, failed)
}

func (p *process) close() {
	for _, file := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if file != nil {
			_ = file.Close() // the terminal twice
		}
	}
}

// startExec runs the stage that becomes the process, feeds it and waits until it did.
func (a *app) startExec(p *process, t *execTarget, spec *execSpec, theirs []int) error {
	specIn, specOut, err := os.Pipe()
	if err != nil {
		return err
	}
	defer specOut.Close()
	reportIn, reportOut, err := os.Pipe()
	if err != nil {
		specIn.Close()
		return err
	}
	defer reportIn.Close()
	files := make([]uintptr, 0, 6)
	for i := range 3 {
		files = append(files, uintptr(theirs[min(i, len(theirs)-1)]))
	}
	files = append(files, specIn.Fd(), reportOut.Fd(), uintptr(t.pidfd))
	err = inPIDNamespace(t.pidfd, func() error { return a.forkExec(p, files) })
	specIn.Close()
	reportOut.Close()
	if err != nil {
		return fmt.Errorf("start a process in the app's container: %w", err)
	}
	if err := instruct(specOut, reportIn, spec); err != nil {
		_ = unix.Kill(p.pid, unix.SIGKILL)
		return err
	}
	return nil
}

// instruct tells the stage what to start, and returns when it has, or why it has not. The app sees the
// stage among its processes and may stop it, so neither is waited for without a limit.
func instruct(specOut, reportIn *os.File, spec *execSpec) error {
	limit := time.Now().Add(startLimit)
	_ = specOut.SetWriteDeadline(limit)
	_ = reportIn.SetReadDeadline(limit)
	if err := json.NewEncoder(specOut).Encode(spec); err != nil {
		return fmt.Errorf("tell the container what to start: %w", err)
	}
	specOut.Close()
	text, err := io.ReadAll(io.LimitReader(reportIn, guest.MaxErrorText))
	if err == nil && len(text) > 0 {
		err = errors.New(strings.ToValidUTF8(string(text), "?"))
	}
	return err
}

// forkExec forks the stage, whose end goes to p.
func (a *app) forkExec(p *process, files []uintptr) error {
	a.mu.Lock() // from the fork to knowing whose end it is
	defer a.mu.Unlock()
	pid, err := syscall.ForkExec("/proc/self/exe", []string{execInitName}, &syscall.ProcAttr{
		Dir: "/", Env: []string{}, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: p.tty},
	})
	if err != nil {
		return err
	}
	exit := make(chan unix.WaitStatus, 1)
	if a.others == nil {
		a.others = make(map[int]chan<- unix.WaitStatus)
	}
	p.pid, p.exit, a.others[pid] = pid, exit, exit
	return nil
}

// inPIDNamespace calls do on a thread whose children are born in the namespace of another process.
// A thread that cannot be brought back is not used for anything else: it ends with its goroutine.
func inPIDNamespace(pidfd int, do func() error) error {
	own, err := unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	runtime.LockOSThread()
	if err := unix.Setns(pidfd, unix.CLONE_NEWPID); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = do()
	if unix.Setns(own, unix.CLONE_NEWPID) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
