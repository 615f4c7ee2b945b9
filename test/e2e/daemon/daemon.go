// Package daemon starts real Dormouse daemons for tests, stops and kills them, and looks at what they leave.
package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// startLimit bounds the time from the start of the process until the API answers.
	startLimit = 2 * time.Minute
	// stopLimit bounds a stop: the daemon suspends what runs, and this may be a slow machine.
	stopLimit = 5 * time.Minute
	// pollEvery is how often the API is asked whether it answers.
	pollEvery = 50 * time.Millisecond
)

// Daemon is a `dormouse serve` with a data folder and ports of its own, which stay the same when it
// is started again. Its methods must not be called concurrently, but for the ones that only look.
type Daemon struct {
	Dir   string   // data folder
	Flags []string // of serve, beyond those that every daemon gets
	Env   []string // variables, beyond those of the tests

	binary string
	listen [3]string // API, endpoints, S3
	log    *os.File
	cmd    *exec.Cmd
	exited chan error // of size 1
}

// New chooses ports and makes the data folder under root ("" = the system's temporary folder). It
// starts nothing yet.
func New(ctx context.Context, root string) (*Daemon, error) {
	binary, err := Binary(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(root, "dormouse-e2e-")
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("make a data folder: %w", err)
	}
	d := &Daemon{Dir: filepath.Join(dir, "data"), binary: binary}
	for i := range d.listen {
		if d.listen[i], err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	if d.log, err = os.OpenFile(filepath.Join(dir, "daemon.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("make the daemon's log: %w", err)
	}
	return d, os.Mkdir(d.Dir, 0o700)
}

// Binary is $DORMOUSE_BIN, or bin/dormouse of this repository, which is built where it is missing.
func Binary(ctx context.Context) (string, error) {
	if path := os.Getenv("DORMOUSE_BIN"); path != "" {
		return filepath.Abs(path)
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	repository := strings.TrimSpace(string(out))
	path := filepath.Join(repository, "bin", "dormouse")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/dormouse")
	build.Dir = repository
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the daemon: %w\n%s", err, out)
	}
	return path, nil
}

// freeAddress is a loopback address nobody listens on at the moment.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// Start starts the daemon and waits until its API answers. wrapper is put in front of its command line.
func (d *Daemon) Start(wrapper ...string) error {
	command := slices.Concat(wrapper, []string{
		d.binary, "serve", "--data-dir", d.Dir,
		"--listen-api", d.listen[0], "--listen-endpoint", d.listen[1], "--listen-s3", d.listen[2],
	}, d.Flags)
	d.cmd = exec.CommandContext(context.Background(), command[0], command[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.Env = append(withoutDataDir(os.Environ()), d.Env...)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	d.exited = make(chan error, 1)
	if err := spawn(d.cmd, d.exited); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for !d.answers(ctx) {
		select {
		case err := <-d.exited:
			d.exited <- err
			return errors.Join(fmt.Errorf("the daemon ended instead of serving\n%s", d.Log(0)), err)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the daemon's API has not answered within %v\n%s", startLimit, d.Log(0)), d.Kill())
		case <-time.After(pollEvery):
		}
	}
	return nil
}

// spawn starts a process that ends when this one does, however that ends, and sends how it ended
// to exited. The thread that starts it must live as long, because Pdeathsig is about that thread.
func spawn(cmd *exec.Cmd, exited chan<- error) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	return <-started
}

// withoutDataDir keeps the variable that tells these tests where to work from the daemon.
func withoutDataDir(env []string) []string {
	kept := env[:0:0]
	for _, variable := range env {
		if !strings.HasPrefix(variable, "DORMOUSE_DATA_DIR=") {
			kept = append(kept, variable)
		}
	}
	return kept
}

// answers tells whether the API answers, be it with a refusal.
func (d *Daemon) answers(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.API(), http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return true
}

// API is the URL of the API.
func (d *Daemon) API() string { return "http://" + d.listen[0] }

// PID is the process id of the running daemon.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Stop ends the daemon as an operator does. It must then exit with status 0 and leave no VMM behind.
func (d *Daemon) Stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the daemon: %w", err)
	}
	select {
	case err := <-d.exited:
		d.exited <- nil
		if err != nil {
			return fmt.Errorf("the daemon did not end well after SIGTERM: %w\n%s", err, d.Log(0))
		}
	case <-time.After(stopLimit):
		return errors.Join(fmt.Errorf("the daemon has not ended within %v after SIGTERM\n%s", stopLimit, d.Log(0)), d.Kill())
	}
	left, err := d.VMMs()
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("the daemon left VMMs behind: %v", left)
	}
	return nil
}

// Kill ends the daemon as a crash does: VMMs stay.
func (d *Daemon) Kill() error {
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the daemon: %w", err)
	}
	err := <-d.exited
	d.exited <- err
	return nil
}

// Remove ends what is left and deletes the data folder and the log.
func (d *Daemon) Remove() error {
	if d.cmd != nil {
		if err := d.Kill(); err != nil {
			return err
		}
	}
	left, err := d.VMMs()
	if err != nil {
		return err
	}
	for _, vmm := range left {
		_ = syscall.Kill(vmm.PID, syscall.SIGKILL)
	}
	return errors.Join(d.log.Close(), os.RemoveAll(filepath.Dir(d.Dir)))
}

// Log is what the daemon has logged since its log was size bytes long; of a long log the end.
func (d *Daemon) Log(size int64) string {
	const most = 64 << 10 // bytes
	end := d.LogSize()
	text, err := io.ReadAll(io.NewSectionReader(d.log, max(size, end-most), most))
	if err != nil {
		return "the daemon's log cannot be read: " + err.Error()
	}
	return string(text)
}

// Logged tells whether a text is in the log.
func (d *Daemon) Logged(text string) (bool, error) {
	log, err := io.ReadAll(io.NewSectionReader(d.log, 0, d.LogSize()))
	return bytes.Contains(log, []byte(text)), err
}

// LogSize is the length of the log in bytes.
func (d *Daemon) LogSize() int64 {
	info, err := d.log.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// Command runs the dormouse command line on the data folder and returns what it prints.
func (d *Daemon) Command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, d.binary, append(args, "--data-dir", d.Dir)...)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("dormouse %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// Program is the dormouse command line on the data folder, not yet run.
func (d *Daemon) Program(ctx context.Context, verb string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, d.binary, append([]string{verb, "--data-dir", d.Dir}, args...)...)
}

// Environment is what a shell has after eval "$(dormouse env)", and nothing else that an SDK reads.
func (d *Daemon) Environment(ctx context.Context) ([]string, error) {
	const script = `eval "$("$0" env --data-dir "$1")" && env -0`
	cmd := exec.CommandContext(ctx, "sh", "-c", script, d.binary, d.Dir)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("dormouse env: %w", err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"), nil
}
