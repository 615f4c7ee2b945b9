package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// containerInitName is argv[0] of the stage between the agent and the app: the agent's own program
// as PID 1 of the app's namespaces, which sets them up from inside and then becomes the app.
const containerInitName = "dormouse-container-init"

// Descriptors the stage is started with. Both close when it becomes the app.
const (
	specFD   = 3 // the containerSpec as JSON
	reportFD = 4 // a text if it failed, nothing if it became the app
)

// containerSpec is what the stage is told.
type containerSpec struct {
	Args            []string `json:"args"`
	Env             []string `json:"env"`
	Dir             string   `json:"dir"`
	User            account  `json:"user"`
	AllCapabilities bool     `json:"allCapabilities"`
}

// Open files an app may have: spec/behaviour.md section 11; with all capabilities the kernel's
// own ceiling (fs.nr_open), which BuildKit and nested containers want.
const (
	defaultOpenFiles = 1024
	allOpenFiles     = 1048576
)

// containerInit never returns.
func containerInit() {
	runtime.LockOSThread() // capabilities and ids belong to a thread, and this one calls execve
	for _, fd := range []int{specFD, reportFD} {
		unix.CloseOnExec(fd)
	}
	err := becomeApp()
	_, _ = io.WriteString(os.NewFile(reportFD, "report"), err.Error())
	os.Exit(1)
}

// becomeApp only returns when it failed.
func becomeApp() error {
	var spec containerSpec
	if err := json.NewDecoder(io.LimitReader(os.NewFile(specFD, "spec"), 2*guest.MaxFrame)).Decode(&spec); err != nil {
		return fmt.Errorf("read what to start: %w", err)
	}
	if err := enterCgroup(); err != nil {
		return fmt.Errorf("enter the app's cgroup: %w", err)
	}
	if err := enterRoot(spec.AllCapabilities); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := os.MkdirAll(spec.Dir, 0o755); err != nil {
		return fmt.Errorf("make the working directory: %w", err)
	}
	if err := limitFiles(spec.AllCapabilities); err != nil {
		return err
	}
	if err := becomeUser(spec.User, spec.AllCapabilities); err != nil {
		return err
	}
	if err := unix.Chdir(spec.Dir); err != nil {
		return fmt.Errorf("change to the working directory %s: %w", spec.Dir, err)
	}
	return execApp(spec)
}

func limitFiles(all bool) error {
	files := uint64(defaultOpenFiles)
	if all {
		files = allOpenFiles
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}); err != nil {
		return fmt.Errorf("limit open files: %w", err)
	}
	return nil
}

// execApp finds the command as a shell would and becomes it.
func execApp(spec containerSpec) error {
	command := spec.Args[0]
	candidates := []string{command}
	if !strings.Contains(command, "/") {
		candidates = inPath(command, spec.Env)
	}
	failure := error(unix.ENOENT)
	for _, path := range candidates {
		err := unix.Exec(path, spec.Args, spec.Env)
		// As execvp(3): a file that may not be executed is worth telling, one that is not there is not.
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			failure = err
		}
		if failure != unix.ENOENT && failure != unix.EACCES {
			break
		}
	}
	if failure == unix.ENOENT && !strings.Contains(command, "/") {
		return fmt.Errorf("exec %q: executable file not found in $PATH", command)
	}
	return fmt.Errorf("exec %q: %w", command, failure)
}

func inPath(command string, env []string) (candidates []string) {
	for _, variable := range env {
		if value, found := strings.CutPrefix(variable, "PATH="); found {
			for dir := range strings.SplitSeq(value, ":") {
				candidates = append(candidates, filepath.Join("/", dir, command))
			}
		}
	}
	return candidates
}

// defaultPath is what container runtimes give an image that sets none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// appEnvironment is the image's environment with what every app may count on. Of two values of one name the
// last wins, as with container runtimes; getenv(3) would take the first.
func appEnvironment(env []string, home string) []string {
	result := []string{"PATH=" + defaultPath, "HOME=" + home}
	for _, variable := range env {
		name, _, ok := strings.Cut(variable, "=")
		if !ok || name == "" || strings.ContainsRune(variable, 0) {
			continue
		}
		same := func(other string) bool { return strings.HasPrefix(other, name+"=") }
		if i := slices.IndexFunc(result, same); i >= 0 {
			result[i] = variable
		} else {
			result = append(result, variable)
		}
	}
	return result
}
