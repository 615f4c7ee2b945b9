package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// execInitName is argv[0] of the stage between the agent and a process it starts beside the app: born in
// the app's PID namespace, it enters the others from inside and then becomes that process.
const execInitName = "dormouse-exec-init"

// appFD is the app's process, which the stage gets beside specFD and reportFD.
const appFD = 5

// execSpec is what the stage is told.
type execSpec struct {
	Args            []string `json:"args"`
	Env             []string `json:"env"`
	Dir             string   `json:"dir"`
	User            account  `json:"user"`
	AllCapabilities bool     `json:"allCapabilities"`
	Cgroup          string   `json:"cgroup"`
}

// execInit never returns.
func execInit() {
	runtime.LockOSThread() // namespaces and capabilities belong to a thread, and this one calls execve
	for _, fd := range []int{specFD, reportFD, appFD} {
		unix.CloseOnExec(fd)
	}
	err := hide()
	if err == nil {
		err = becomeProcess()
	}
	_, _ = io.WriteString(os.NewFile(reportFD, "report"), err.Error())
	os.Exit(1)
}

// hide keeps processes with the app's capabilities from tracing this one, until it becomes another
// program: in between, the thread that calls execve has no more capabilities than they, while the Go
// runtime's others still have all, and are in the agent's mount namespace.
func hide() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide from the app: %w", err)
	}
	return nil
}

// becomeProcess only returns when it failed.
func becomeProcess() error {
	var spec execSpec
	if err := json.NewDecoder(io.LimitReader(os.NewFile(specFD, "spec"), 2*guest.MaxFrame)).Decode(&spec); err != nil {
		return fmt.Errorf("read what to start: %w", err)
	}
	if err := os.WriteFile(filepath.Join(cgroupRoot, spec.Cgroup, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("enter the app's cgroup: %w", err)
	}
	// setns(2): a thread cannot change its mounts while others share its root and working directory.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(appFD, unix.CLONE_NEWNS|unix.CLONE_NEWIPC|unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("enter the app's namespaces: %w", err)
	}
	unix.Umask(0o022)
	if err := limitFiles(spec.AllCapabilities); err != nil {
		return err
	}
	if err := becomeUser(spec.User, spec.AllCapabilities); err != nil {
		return err
	}
	if unix.Chdir(spec.Dir) != nil { // the app may have removed it
		if err := unix.Chdir("/"); err != nil {
			return err
		}
	}
	if len(spec.Args) > 0 {
		return execApp(containerSpec{Args: spec.Args, Env: spec.Env})
	}
	return execShell(spec.Env)
}

// execShell becomes a shell of the image.
func execShell(env []string) error {
	for _, shell := range []string{"/bin/bash", "/bin/sh"} {
		if err := unix.Exec(shell, []string{shell}, env); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("exec %s: %w", shell, err)
		}
	}
	return errors.New("the image has no shell: neither /bin/bash nor /bin/sh")
}
