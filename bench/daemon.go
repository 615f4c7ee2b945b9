package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	startLimit = 2 * time.Minute // the first start makes keys and certificates
	stopLimit  = 5 * time.Minute // it suspends what runs
)

// daemon is `dormouse serve` on a data folder of its own.
type daemon struct {
	binary  string
	dataDir string
	process *exec.Cmd
	ended   chan error // has its end, once
}

// startDaemon returns once it serves. Ports are free ones, so that it disturbs no other daemon.
func startDaemon(ctx context.Context, binary, dataDir string) (*daemon, error) {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.Create(dataDir + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// Not CommandContext: when ctx ends, stop still lets the daemon end by itself.
	process := exec.Command(binary, "serve", "--data-dir", dataDir,
		"--listen-api", "127.0.0.1:0", "--listen-endpoint", "127.0.0.1:0", "--listen-s3", "127.0.0.1:0")
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for us; we stop it in turn
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	d := &daemon{binary: binary, dataDir: dataDir, process: process, ended: make(chan error, 1)}
	go func() { d.ended <- process.Wait() }()
	if err := d.awaitStart(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the daemon: %w\n%s", err, d.logTail()), d.stop())
	}
	return d, nil
}

// awaitStart waits for the file that the daemon writes when it listens.
func (d *daemon) awaitStart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		if _, err := os.Stat(filepath.Join(d.dataDir, "daemon.json")); err == nil {
			return nil
		}
		select {
		case err := <-d.ended:
			d.ended <- err // for stop
			return fmt.Errorf("it has ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// command returns what a command of the daemon's command line prints.
func (d *daemon) command(ctx context.Context, arguments ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, d.binary, append(arguments, "--data-dir", d.dataDir)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return nil, fmt.Errorf("dormouse %s: %w", strings.Join(arguments, " "), err)
	}
	return out, nil
}

// environment is the environment that `dormouse env` makes of ours.
func (d *daemon) environment(ctx context.Context) (map[string]string, error) {
	script, err := d.command(ctx, "env")
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "sh", "-c", string(script)+"\nenv -0").Output()
	if err != nil {
		return nil, fmt.Errorf("evaluate dormouse env: %w", err)
	}
	environment := map[string]string{}
	for variable := range strings.SplitSeq(string(out), "\x00") {
		name, value, _ := strings.Cut(variable, "=")
		environment[name] = value
	}
	return environment, nil
}

func (d *daemon) pid() int { return d.process.Process.Pid }

// vmms are the ids of the VMM processes of the daemon.
func (d *daemon) vmms() []int { return descendants(d.pid()) }

// stop ends the daemon as a service manager would. Processes that outlive it are an error, and
// are ended.
func (d *daemon) stop() error {
	_ = d.process.Process.Signal(syscall.SIGTERM)
	var problem error
	select {
	case err := <-d.ended:
		if err != nil {
			problem = fmt.Errorf("the daemon ended badly: %w\n%s", err, d.logTail())
		}
	case <-time.After(stopLimit):
		_ = d.process.Process.Kill()
		<-d.ended //nolint:errcheck // it was killed
		problem = fmt.Errorf("the daemon did not end within %v of SIGTERM\n%s", stopLimit, d.logTail())
	}
	for _, pid := range d.orphans() {
		problem = errors.Join(problem, fmt.Errorf("the daemon left process %d behind", pid))
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return problem
}

// orphans are the processes that name the data folder in their arguments.
func (d *daemon) orphans() (pids []int) {
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(folder), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		named := func(argument string) bool { return strings.Contains(argument, d.dataDir+"/") }
		if slices.ContainsFunc(commandLine(pid), named) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// logTail is the end of what the daemon printed.
func (d *daemon) logTail() string {
	text, _ := os.ReadFile(d.dataDir + ".log")
	const most = 2 << 10 // bytes
	return string(text[max(0, len(text)-most):])
}
