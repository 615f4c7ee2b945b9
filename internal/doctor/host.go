package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// privileged says whether this process may do what root may.
func privileged() bool { return os.Geteuid() == 0 }

// tryUserNamespace starts a process that is root in a user namespace of its own.
func tryUserNamespace(ctx context.Context) error {
	path, err := exec.LookPath("true")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	return cmd.Run()
}

// Kernel settings that forbid user namespaces, with the value that does.
var namespaceSwitches = map[string]string{
	"user.max_user_namespaces":                     "0",
	"kernel.unprivileged_userns_clone":             "0", // Debian
	"kernel.apparmor_restrict_unprivileged_userns": "1", // Ubuntu
}

// namespaceSettings lists those that do here, as name=value.
func namespaceSettings() []string {
	var set []string
	for name, forbids := range namespaceSwitches {
		if value, err := sysctl(name); err == nil && value == forbids {
			set = append(set, name+"="+value)
		}
	}
	slices.Sort(set)
	return set
}

func namespaceFinding(err error, root bool, forbidding []string) Finding {
	f := Finding{Name: "user namespaces", Status: OK, Detail: "available"}
	switch {
	case err == nil:
		return f
	case root:
		f.Detail = fmt.Sprintf("not available (%v); not needed as root", err)
		return f
	}
	f.Status = Warn
	f.Detail = fmt.Sprintf("not available (%v); set-up builds base images in them", err)
	f.Fix = "run set-up as root once"
	if len(forbidding) > 0 {
		f.Fix = "change " + strings.Join(forbidding, ", ") + " with sysctl, or " + f.Fix
	}
	return f
}

// limits are the hard resource limits that matter: the daemon raises its soft ones itself.
type limits struct {
	files, processes, fileSize uint64
}

func readLimits() (limits, error) {
	var l limits
	for resource, value := range map[int]*uint64{unix.RLIMIT_NOFILE: &l.files, unix.RLIMIT_NPROC: &l.processes, unix.RLIMIT_FSIZE: &l.fileSize} {
		var limit unix.Rlimit
		if err := unix.Getrlimit(resource, &limit); err != nil {
			return limits{}, fmt.Errorf("read resource limits: %w", err)
		}
		*value = limit.Max
	}
	return l, nil
}

// What a hundred running VMs need: some ten descriptors each in the daemon plus their connections,
// one process of a few threads each, and files as large as the largest guest's memory.
const (
	wantFiles     = 16384
	wantProcesses = 4096
	wantFileSize  = 32 << 30 // bytes
)

func limitsFinding(l limits, err error) Finding {
	f := Finding{Name: "resource limits", Status: OK}
	if err != nil {
		f.Status, f.Detail = Warn, err.Error()
		return f
	}
	f.Detail = fmt.Sprintf("open files %s, processes %s, file size %s", limitText(l.files), limitText(l.processes), limitText(l.fileSize))
	var raise []string
	if l.files < wantFiles {
		raise = append(raise, fmt.Sprintf("open files (-n) to %d", wantFiles))
	}
	if l.processes < wantProcesses {
		raise = append(raise, fmt.Sprintf("processes (-u) to %d", wantProcesses))
	}
	if l.fileSize < wantFileSize {
		raise = append(raise, "file size (-f) to unlimited")
	}
	if len(raise) > 0 {
		f.Status = Warn
		f.Fix = "raise the hard limit of " + strings.Join(raise, ", ") + " (ulimit, limits.conf or the service's unit)"
	}
	return f
}

func limitText(value uint64) string {
	if value == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(value, 10)
}

// sysctl reads a kernel setting; one this kernel does not have is os.ErrNotExist.
func sysctl(name string) (string, error) {
	raw, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(raw)), nil
}

// ptraceScope is Yama's restriction of ptrace: 0 none, 1 descendants only, 2 root only, 3 nobody.
func ptraceScope() int {
	text, err := sysctl("kernel.yama.ptrace_scope")
	if err != nil {
		return 0 // a kernel without Yama
	}
	scope, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return scope
}

func memoryFinding(err error, scope int, root bool) Finding {
	f := Finding{Name: "guest memory access", Status: OK, Detail: "the daemon can read and write the memory of its VMM processes"}
	switch {
	case err != nil:
		f.Status = Fail
		f.Detail = fmt.Sprintf("suspending and waking need the memory of VMM processes: %v", err)
		f.Fix = "set kernel.yama.ptrace_scope to 0 or 1, and do not forbid ptrace in the container the daemon runs in"
	case scope > 0 && !root:
		f.Status = Warn
		f.Detail += fmt.Sprintf(", but with kernel.yama.ptrace_scope=%d a restarted daemon cannot suspend the VMs it finds running", scope)
		f.Fix = "sysctl kernel.yama.ptrace_scope=0, or end the daemon with SIGTERM only"
	}
	return f
}

// tryPagemapScan asks for PAGEMAP_SCAN (Linux 6.7) with no argument: a kernel that has it complains
// of the address, the others of the request.
func tryPagemapScan() error {
	file, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	defer file.Close()
	const pagemapScan = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg), linux/fs.h
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), pagemapScan, 0); errno != unix.EFAULT {
		return errno
	}
	return nil
}

func scanFinding(err error) Finding {
	f := Finding{Name: "PAGEMAP_SCAN", Status: OK, Detail: "available"}
	switch {
	case errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL):
		f.Detail = "not in this kernel (Linux 6.7 has it); dirty pages are found by reading /proc/PID/pagemap, which takes longer for large guests"
	case err != nil:
		f.Status, f.Detail = Warn, err.Error()
	}
	return f
}
