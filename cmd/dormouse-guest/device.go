package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// device is a character or block device.
type device struct {
	name         string // below /dev
	kind         uint32 // unix.S_IFCHR or unix.S_IFBLK
	major, minor uint32 // Linux' Documentation/admin-guide/devices.txt
}

// containerDevices are those of the OCI runtime specification.
var containerDevices = []device{
	{"null", unix.S_IFCHR, 1, 3}, {"zero", unix.S_IFCHR, 1, 5}, {"full", unix.S_IFCHR, 1, 7},
	{"random", unix.S_IFCHR, 1, 8}, {"urandom", unix.S_IFCHR, 1, 9}, {"tty", unix.S_IFCHR, 5, 0},
}

// loopDevices is how many there are without asking the kernel for more.
const loopDevices = 8

// privilegedDevices are for an app with all capabilities, in addition: FUSE (spec/behaviour.md 11), VPNs,
// disk images.
func privilegedDevices() []device {
	devices := []device{{"fuse", unix.S_IFCHR, 10, 229}, {"net/tun", unix.S_IFCHR, 10, 200}, {"loop-control", unix.S_IFCHR, 10, 237}}
	for i := range uint32(loopDevices) {
		devices = append(devices, device{fmt.Sprint("loop", i), unix.S_IFBLK, 7, i})
	}
	return devices
}

// fillDev makes the devices and links of the app's /dev.
func fillDev(all bool) error {
	var err error
	if all {
		err = makeDevices("/dev", append(privilegedDevices(), containerDevices...))
	} else {
		err = bindDevices()
	}
	if err != nil {
		return err
	}
	links := []struct{ name, target string }{
		{"ptmx", "pts/ptmx"}, {"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
	}
	for _, l := range links {
		if err := os.Symlink(l.target, filepath.Join("/dev", l.name)); err != nil {
			return err
		}
	}
	return nil
}

func makeDevices(dir string, devices []device) error {
	for _, d := range devices {
		path := filepath.Join(dir, d.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := unix.Mknod(path, d.kind|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		if err := unix.Chmod(path, 0o666); err != nil { // mknod applied the umask
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return nil
}

// bindDevices shows the devices one by one in a /dev where no others can be opened: an app with the
// default capabilities may make device nodes (mknod), of its disks for example.
func bindDevices() error {
	const nodes = "/dev/.nodes"
	if err := os.Mkdir(nodes, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", nodes, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=700,size=16k"); err != nil {
		return err
	}
	if err := makeDevices(nodes, containerDevices); err != nil {
		return err
	}
	for _, d := range containerDevices {
		if err := os.WriteFile(filepath.Join("/dev", d.name), nil, 0o666); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		if err := unix.Mount(filepath.Join(nodes, d.name), filepath.Join("/dev", d.name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	if err := unix.Unmount(nodes, unix.MNT_DETACH); err != nil {
		return err
	}
	return os.Remove(nodes)
}
