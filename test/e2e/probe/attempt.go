package main

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempts are what container runtimes keep from an app that is not privileged.
var attempts = map[string]func() error{
	"mount":             tryMount,
	"overlay":           tryOverlay,
	"mount namespace":   func() error { return tryNamespaces(unix.CLONE_NEWNS | unix.CLONE_NEWPID) },
	"user namespace":    func() error { return tryNamespaces(unix.CLONE_NEWUSER) },
	"network namespace": func() error { return tryNamespaces(unix.CLONE_NEWNET) },
	"eBPF":              func() error { return tryBPF(unix.BPF_PROG_TYPE_SOCKET_FILTER) },
	"eBPF tracing":      func() error { return tryBPF(unix.BPF_PROG_TYPE_KPROBE) },
	"FUSE":              tryFUSE,
	"device":            tryDevice,
	"disk":              tryDisk,
	"cgroup":            tryCgroup,
	"veth":              func() error { return addLink("veth") },
	"bridge":            func() error { return addLink("bridge") },
	"tun":               func() error { return tryOpen("/dev/net/tun", unix.O_RDWR) },
	"loop":              func() error { return tryOpen("/dev/loop-control", unix.O_RDWR) },
	"sysctl":            func() error { return os.WriteFile("/proc/sys/kernel/domainname", []byte("probe"), 0) },
}

// scratch is on a volume, because an overlay cannot be the upper side of another.
func scratch() (string, error) {
	if err := os.MkdirAll("/data", 0o755); err != nil {
		return "", err
	}
	return os.MkdirTemp("/data", "")
}

func tryMount() error {
	dir, err := scratch()
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	return unix.Unmount(dir, 0)
}

func tryOverlay() error {
	dir, err := overlay()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "probe")); err != nil {
		return err
	}
	return unix.Unmount(dir, 0)
}

// overlay mounts the app's own root under a writable layer.
func overlay() (string, error) {
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	for _, part := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, part), 0o755); err != nil {
			return "", err
		}
	}
	options := "lowerdir=/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	return filepath.Join(dir, "merged"), unix.Mount("overlay", filepath.Join(dir, "merged"), "overlay", 0, options)
}

func tryNamespaces(flags uintptr) error {
	cmd := exec.CommandContext(context.Background(), "/probe", "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	return cmd.Run()
}

// tryBPF loads the program `return 0`.
func tryBPF(kind uint32) error {
	program := []uint64{0x00000000_000000b7, 0x00000000_00000095} // r0 = 0; exit
	license := []byte("GPL\x00")
	attributes := struct { // union bpf_attr for BPF_PROG_LOAD, its beginning
		kind, count    uint32
		code, license  uint64
		level, size    uint32
		buffer         uint64
		version, flags uint32
	}{
		kind: kind, count: uint32(len(program)),
		code: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

func tryOpen(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// tryDevice makes a node of FUSE's device where the app may write, and opens it.
func tryDevice() error {
	const path = "/dev/made"
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 229))); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return tryOpen(path, unix.O_RDWR)
}

// tryDisk does the same with a disk of the microVM.
func tryDisk() error {
	const path = "/dev/disk"
	text, err := os.ReadFile("/sys/block/vda/dev")
	if err != nil {
		return err
	}
	majorText, minorText, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
	major, err := strconv.ParseUint(majorText, 10, 32)
	if err != nil {
		return err
	}
	minor, err := strconv.ParseUint(minorText, 10, 32)
	if err != nil {
		return err
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(major), uint32(minor)))); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return tryOpen(path, unix.O_RDONLY)
}

// tryCgroup makes a cgroup and moves a process into it.
func tryCgroup() error {
	const dir = "/sys/fs/cgroup/probe"
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		return err
	}
	cmd := exec.CommandContext(context.Background(), "/probe", "true")
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(root.Fd())}
	return cmd.Run()
}

// addLink makes a network device of a kind, with rtnetlink(7).
func addLink(kind string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	body := make([]byte, unix.SizeofIfInfomsg)
	body = append(body, attribute(unix.IFLA_IFNAME, []byte("probe-"+kind+"\x00"))...)
	body = append(body, attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte(kind)))...)
	request := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	request = binary.NativeEndian.AppendUint16(request, unix.RTM_NEWLINK)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	request = append(request, make([]byte, 8)...) // sequence, port
	if err := unix.Sendto(fd, append(request, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	reply := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, reply, 0)
	if err != nil || n < unix.SizeofNlMsghdr+4 {
		return errors.Join(err, errors.New("no answer"))
	}
	if code := int32(binary.NativeEndian.Uint32(reply[unix.SizeofNlMsghdr:])); code != 0 && unix.Errno(-code) != unix.EEXIST {
		return unix.Errno(-code)
	}
	return nil
}

// attribute is one attribute of a netlink message, padded to four bytes.
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, -len(b)&3)...)
}
