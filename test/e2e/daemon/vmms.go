package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// VMM is a QEMU process that belongs to a data folder.
type VMM struct {
	PID     int
	MicroVM string // id of the microVM whose disk it has open, "" if it has none: a builder, or one that waits
}

// VMMs finds the QEMU processes that work in the data folder, whoever started them.
func (d *Daemon) VMMs() ([]VMM, error) {
	dir, err := filepath.EvalSymlinks(d.Dir)
	if err != nil {
		return nil, fmt.Errorf("find VMMs: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find VMMs: %w", err)
	}
	var found []VMM
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		process := filepath.Join("/proc", entry.Name())
		if isVMMIn(process, dir+string(filepath.Separator)) {
			found = append(found, VMM{PID: pid, MicroVM: openMicroVM(process, filepath.Join(dir, "microvms"))})
		}
	}
	return found, nil
}

// VMMOf is the process id of a microVM's VMM, 0 if it has none.
func (d *Daemon) VMMOf(microVM string) (int, error) {
	all, err := d.VMMs()
	for _, vmm := range all {
		if vmm.MicroVM == microVM {
			return vmm.PID, nil
		}
	}
	return 0, err
}

// VMMsUsing lists the daemon's VMMs that have a file of a folder open, deleted ones included.
func (d *Daemon) VMMsUsing(folder string) (found []VMM, err error) {
	if parent, err := filepath.EvalSymlinks(filepath.Dir(folder)); err == nil {
		folder = filepath.Join(parent, filepath.Base(folder))
	}
	all, err := d.VMMs()
	for _, vmm := range all {
		if _, uses := openUnder(filepath.Join("/proc", strconv.Itoa(vmm.PID)), folder); uses {
			found = append(found, vmm)
		}
	}
	return found, err
}

// isVMMIn tells whether a process is a QEMU whose working folder or command line is in a folder. A
// process that ends meanwhile is none.
func isVMMIn(process, folder string) bool {
	words, err := os.ReadFile(filepath.Join(process, "cmdline"))
	if err != nil || !strings.HasPrefix(filepath.Base(strings.SplitN(string(words), "\x00", 2)[0]), "qemu-system") {
		return false
	}
	workingDir, err := os.Readlink(filepath.Join(process, "cwd"))
	return err == nil && (strings.HasPrefix(workingDir, folder) || strings.Contains(string(words), folder))
}

// openMicroVM is the name of the folder under microvms of which a process has a file open.
func openMicroVM(process, microvms string) string {
	file, _ := openUnder(process, microvms)
	id, _, _ := strings.Cut(file, string(filepath.Separator))
	return id
}

// openUnder is a file of a folder, relative to it, that a process has open, if there is one.
func openUnder(process, folder string) (file string, found bool) {
	descriptors, err := os.ReadDir(filepath.Join(process, "fd"))
	if err != nil {
		return "", false
	}
	for _, descriptor := range descriptors {
		path, err := os.Readlink(filepath.Join(process, "fd", descriptor.Name()))
		if err != nil {
			continue
		}
		if rest, inside := strings.CutPrefix(path, folder+string(filepath.Separator)); inside {
			return rest, true
		}
	}
	return "", false
}
