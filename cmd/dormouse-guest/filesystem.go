package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// appCgroup is where the app runs, as on AWS (spec/behaviour.md section 11).
const appCgroup = cgroupRoot + "/system.slice/app"

func enterCgroup() error {
	return os.WriteFile(appCgroup+"/cgroup.procs", []byte("0"), 0)
}

// enterRoot makes the app's file system the root of this mount namespace and mounts the rest in it.
// Every path after the pivot is resolved inside the image, so its symlinks lead nowhere else.
func enterRoot(all bool) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Chdir(appRoot); err != nil {
		return fmt.Errorf("open the app's root: %w", err)
	}
	// pivot_root(2): "." twice stacks the old root on the new one, where it is then taken off.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot to the app's root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the agent's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	for _, m := range appMounts(all) {
		if err := m.mount(); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := fillDev(all); err != nil {
		return fmt.Errorf("fill /dev: %w", err)
	}
	if all {
		return nil
	}
	if err := forbidUserNamespaces(); err != nil {
		return fmt.Errorf("forbid user namespaces: %w", err)
	}
	return hidePaths()
}

type appMount struct {
	kind, target string
	flags        uintptr
	data         string
	optional     bool // not in every kernel
}

func (m appMount) mount() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.data)
	if m.optional && errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// appMounts lists what the OCI runtime specification asks of Linux containers.
func appMounts(all bool) []appMount {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	sysFlags := uintptr(quiet | unix.MS_RDONLY)
	devFlags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_STRICTATIME) // see bindDevices
	if all {
		sysFlags = quiet
		devFlags &^= unix.MS_NODEV
	}
	mounts := []appMount{
		{kind: "proc", target: "/proc", flags: quiet},
		{kind: "sysfs", target: "/sys", flags: sysFlags},
		{kind: "tmpfs", target: "/dev", flags: devFlags, data: "mode=755,size=64k"},
		{kind: "devpts", target: "/dev/pts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{kind: "mqueue", target: "/dev/mqueue", flags: quiet, optional: true},
		{kind: "tmpfs", target: "/dev/shm", flags: quiet, data: "mode=1777,size=64m"}, // spec/behaviour.md 4.3
	}
	if all {
		mounts = append(mounts, appMount{kind: "cgroup2", target: "/sys/fs/cgroup", flags: quiet})
	}
	return mounts
}

// forbidUserNamespaces is what container runtimes do with a seccomp filter: in a user namespace of its
// own an app would have all capabilities, mounts and nested containers.
func forbidUserNamespaces() error {
	err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0)
	if errors.Is(err, os.ErrNotExist) { // a kernel without them
		return nil
	}
	return err
}

// Paths container runtimes hide from, or make read-only for, an app without all capabilities.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	readOnlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func hidePaths() error {
	for _, path := range maskedPaths {
		if err := mask(path); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mask %s: %w", path, err)
		}
	}
	for _, path := range readOnlyPaths {
		if err := makeReadOnly(path); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("make %s read-only: %w", path, err)
		}
	}
	return nil
}

// mask covers a file with /dev/null and a folder with an empty one.
func mask(path string) error {
	err := unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
	if errors.Is(err, unix.ENOTDIR) {
		return unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "size=0k")
	}
	return err
}

func makeReadOnly(path string) error {
	if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	const flags = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return unix.Mount("", path, "", flags, "")
}
