package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

const (
	// startLimit is how long the stage before the app may take. It only mounts and looks up the
	// command; the limit is for a command on a file system that never answers.
	startLimit = 30 * time.Second
	// outputLimit is how long the last output of an ended app is waited for.
	outputLimit = time.Second
)

var errStarted = errors.New("the app was started already")

// app is the one container of the VM.
type app struct {
	journal *journal
	output  sync.WaitGroup // the readers of stdout and stderr

	mu      sync.Mutex // also held from fork to knowing the pid, so that reap cannot miss it
	pid     int        // guarded by mu; 0 before the start and after the end
	started bool       // guarded by mu

	boot   *guest.BootRequest             // guarded by mu: what was started; nil before
	others map[int]chan<- unix.WaitStatus // guarded by mu: who waits for the end of other children; see exec
}

// start runs the app of an image. It returns when the app's program was executed, or why not.
func (a *app) start(r *guest.BootRequest, id *identity) error {
	a.mu.Lock()
	again := a.started
	a.started = true
	a.mu.Unlock()
	if again {
		return errStarted
	}
	spec, err := prepareRoot(r, id)
	if err != nil {
		return err
	}
	if err := a.run(spec); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.boot = &guest.BootRequest{Env: r.Env, Dir: spec.Dir, AllCapabilities: r.AllCapabilities}
	return nil
}

// prepareRoot mounts what the app's root needs from outside and resolves who the app runs as.
func prepareRoot(r *guest.BootRequest, id *identity) (*containerSpec, error) {
	if len(r.Args) == 0 || r.Args[0] == "" {
		return nil, errors.New("the image has neither ENTRYPOINT nor CMD")
	}
	dir := r.Dir
	if dir == "" {
		dir = "/"
	}
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("working directory %q is not absolute", dir)
	}
	root, err := openImageRoot(appRoot)
	if err != nil {
		return nil, err
	}
	defer root.close()
	user, err := resolveUser(root, r.User)
	if err != nil {
		return nil, err
	}
	if err := id.mountInto(root); err != nil {
		return nil, err
	}
	for i, path := range r.Volumes {
		if err := mountVolume(root, i, path); err != nil {
			return nil, fmt.Errorf("mount volume %s: %w", path, err)
		}
	}
	if err := os.MkdirAll(appCgroup, 0o755); err != nil {
		return nil, err
	}
	return &containerSpec{
		Args: r.Args, Env: appEnvironment(r.Env, user.Home), Dir: dir, User: user, AllCapabilities: r.AllCapabilities,
	}, nil
}

// run starts the container stage, feeds it and waits until it became the app.
func (a *app) run(spec *containerSpec) error {
	var pipes [4]struct{ r, w *os.File } // spec, report, stdout, stderr
	for i := range pipes {
		var err error
		if pipes[i].r, pipes[i].w, err = os.Pipe(); err != nil {
			return err
		}
	}
	specPipe, report, stdout, stderr := pipes[0], pipes[1], pipes[2], pipes[3]
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()

	err = a.fork([]uintptr{null.Fd(), stdout.w.Fd(), stderr.w.Fd(), specPipe.r.Fd(), report.w.Fd()})
	for _, file := range []*os.File{stdout.w, stderr.w, specPipe.r, report.w} {
		file.Close()
	}
	if err != nil {
		return fmt.Errorf("start the app's container: %w", err)
	}
	a.output.Add(2)
	go a.capture("stdout", stdout.r)
	go a.capture("stderr", stderr.r)

	if err := json.NewEncoder(specPipe.w).Encode(spec); err != nil {
		return fmt.Errorf("tell the container what to start: %w", err)
	}
	specPipe.w.Close()
	_ = report.r.SetReadDeadline(time.Now().Add(startLimit))
	text, err := io.ReadAll(io.LimitReader(report.r, guest.MaxErrorText))
	report.r.Close()
	if err != nil {
		return fmt.Errorf("wait for the app to start: %w", err)
	}
	if len(text) > 0 {
		return errors.New(strings.ToValidUTF8(string(text), "?"))
	}
	return nil
}

// fork starts the stage in namespaces of its own; network and UTS stay the agent's.
func (a *app) fork(files []uintptr) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	pid, err := syscall.ForkExec("/proc/self/exe", []string{containerInitName}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: files,
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP,
		},
	})
	a.pid = pid
	return err
}

// capture moves what the app writes into the journal until every copy of the pipe is closed.
func (a *app) capture(stream string, from *os.File) {
	defer a.output.Done()
	defer from.Close()
	buffer := make([]byte, pieceSize)
	for {
		n, err := from.Read(buffer)
		a.journal.write(stream, buffer[:n])
		if err != nil {
			return
		}
	}
}

// reap collects every child that ends, as PID 1 must, and records the end of the app.
func (a *app) reap() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	for range signals {
		for {
			var status unix.WaitStatus
			a.mu.Lock()
			pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
			ofApp := err == nil && pid > 0 && pid == a.pid
			if ofApp {
				a.pid = 0
			}
			if waits := a.others[pid]; waits != nil && pid > 0 {
				waits <- status // of size 1
				delete(a.others, pid)
			}
			a.mu.Unlock()
			if err != nil || pid <= 0 {
				break
			}
			if ofApp {
				a.ended(status)
			}
		}
	}
}

// ended records the exit behind the last output.
func (a *app) ended(status unix.WaitStatus) {
	drained := make(chan struct{})
	go func() {
		a.output.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(outputLimit):
	}
	code := status.ExitStatus()
	if status.Signaled() {
		code = 128 + int(status.Signal())
		a.journal.write("agent", fmt.Appendf(nil, "the app was ended by signal %d (%s)\n", int(status.Signal()), status.Signal()))
	}
	a.journal.end(code)
}
