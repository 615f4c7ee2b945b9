package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// Where things are in the agent's own root, which the app never sees.
const (
	imageDir   = "/mnt/image" // the image's file system, read-only
	dataDir    = "/mnt/data"  // the writable disk
	appRoot    = "/mnt/app"   // overlay of the two: the app's root
	runDir     = "/run"       // tmpfs
	cgroupRoot = "/sys/fs/cgroup"
)

// setUpMachine takes the VM from "the kernel started /init" to disks, network and the app's root.
func setUpMachine() error {
	steps := []struct {
		what string
		do   func() error
	}{
		{"make a root that can be pivoted", makeRoot},
		{"mount kernel file systems", mountKernelFilesystems},
		{"load kernel modules", loadModules},
		{"mount disks", mountDisks},
		{"set up the network", setUpNetwork},
		{"make the root read-only", sealRoot},
		{"raise the limit of open files", raiseLimit},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// makeRoot puts a bind mount of the initramfs over the initramfs and changes root to it.
// pivot_root(2) refuses the kernel's first root, and nested container runtimes need it.
func makeRoot() error {
	for _, dir := range []string{"/proc", "/sys", "/dev", runDir, imageDir, dataDir, appRoot} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("/", "/mnt", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Chdir("/mnt"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

func mountKernelFilesystems() error {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		kind, target string
		flags        uintptr
		data         string
	}{
		{"proc", "/proc", quiet, ""},
		{"sysfs", "/sys", quiet, ""},
		{"cgroup2", cgroupRoot, quiet, ""},
		{"devtmpfs", "/dev", unix.MS_NOSUID, ""},
		{"tmpfs", runDir, unix.MS_NOSUID | unix.MS_NODEV, "mode=755,size=16m"},
	} {
		if err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("%s: %w", m.target, err)
		}
	}
	return nil
}

// loadModules loads what the initramfs lists, in that order, and frees the memory of the files.
func loadModules() error {
	const dir = "/modules" // internal/guest/initramfs writes it
	order, err := os.ReadFile(dir + "/order")
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel with everything built in
	}
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(order)) {
		if err := loadModule(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return os.RemoveAll(dir)
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	err = unix.FinitModule(int(file.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// mountDisks mounts the image, the writable disk, and the overlay of both.
func mountDisks() error {
	image, err := diskBySerial("root")
	if err != nil {
		return err
	}
	data, err := diskBySerial("data")
	if err != nil {
		return err
	}
	if err := mountImage(image); err != nil {
		return fmt.Errorf("image disk: %w", err)
	}
	// noinit_itable: ext4's background zeroing of inode tables would only grow a new disk.
	if err := unix.Mount(data, dataDir, "ext4", unix.MS_NODEV|unix.MS_NOATIME, "noinit_itable"); err != nil {
		return fmt.Errorf("data disk: %w", err)
	}
	for _, dir := range []string{"upper", "work", "volumes"} {
		if err := os.MkdirAll(filepath.Join(dataDir, dir), 0o755); err != nil {
			return err
		}
	}
	// nodev: device nodes the app makes cannot be opened, so no device cgroup is needed.
	// redirect_dir: renaming a folder of the image works as it does on a plain file system.
	options := "lowerdir=" + imageDir + ",upperdir=" + dataDir + "/upper,workdir=" + dataDir + "/work,redirect_dir=on,xino=auto"
	if err := unix.Mount("overlay", appRoot, "overlay", unix.MS_NODEV|unix.MS_NOATIME, options); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return nil
}

// mountImage mounts the image as the file system it has.
func mountImage(disk string) error {
	var failures []error
	for _, kind := range []string{"ext4", "erofs"} {
		err := unix.Mount(disk, imageDir, kind, unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOATIME, "")
		if err == nil {
			return nil
		}
		failures = append(failures, fmt.Errorf("as %s: %w", kind, err))
	}
	return errors.Join(failures...)
}

// diskBySerial finds a disk by the serial the VMM gave it: device names follow the order of
// enumeration, which virtio-mmio reverses.
func diskBySerial(serial string) (string, error) {
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join("/sys/block", entry.Name(), "serial"))
		if err == nil && strings.TrimSpace(string(text)) == serial {
			return filepath.Join("/dev", entry.Name()), nil
		}
	}
	return "", fmt.Errorf("no disk has the serial %q", serial)
}

// sealRoot keeps the app from overwriting the agent through /proc/1/exe while it starts.
func sealRoot() error {
	return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}

// raiseLimit makes room for maxConnections relays of two sockets and two pipes each.
func raiseLimit() error {
	const files = 8 * maxConnections
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files})
}

func secretFromCommandLine() (secret [guest.SecretSize]byte, err error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return secret, err
	}
	return parseSecret(string(line))
}

func parseSecret(commandLine string) (secret [guest.SecretSize]byte, err error) {
	for option := range strings.FieldsSeq(commandLine) {
		text, found := strings.CutPrefix(option, guest.SecretOption)
		if !found {
			continue
		}
		decoded, err := hex.DecodeString(text)
		if err != nil || len(decoded) != guest.SecretSize {
			return secret, fmt.Errorf("%s needs %d hex digits", guest.SecretOption, 2*guest.SecretSize)
		}
		return [guest.SecretSize]byte(decoded), nil
	}
	return secret, fmt.Errorf("no %s on the kernel command line", guest.SecretOption)
}
