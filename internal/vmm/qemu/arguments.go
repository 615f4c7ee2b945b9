package qemu

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// mode says what a QEMU process is started for.
type mode int

const (
	boot    mode = iota // from a kernel, guest memory shared with its file
	prepare             // wait for device state, guest memory private
)

// Names that QMP commands use.
const (
	dataNode     = "data"  // format node of the writable disk; its file node may change
	dataFileNode = "data0" // file node of the writable disk at start
	attachedNode = "data1" // file node of the writable disk after AttachData
	consoleID    = "console"
	consoleBytes = 64 << 10
)

// Socket and file names in a machine's run folder. They are given to QEMU as relative paths
// (its working folder is the run folder): a unix socket path may not exceed 107 bytes.
const (
	monitorSocket = "qmp.sock"
	networkSocket = "net.sock"
)

// sandbox takes away what QEMU does not need here: no new processes, no privileges, no
// changes of its own resource limits. Guest disks and sockets are opened before or passed in.
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// devices numbers the set of devices and properties below. It goes up with every change to them that
// makes device state saved before unreadable.
const devices = 2

// arguments is the command line. All devices are always there, in the same order: a snapshot
// loads only into the machine it was saved from.
func (d *Driver) arguments(cfg vmm.Config, mode mode) []string {
	share := "off"
	if mode == boot {
		share = "on"
	}
	args := []string{
		"-M", "microvm,memory-backend=ram",
		"-accel", string(d.accelerator), "-cpu", d.cpuModel(),
		"-smp", strconv.Itoa(cfg.CPUs), "-m", strconv.Itoa(cfg.MemoryMiB),
		"-object", fmt.Sprintf("memory-backend-file,id=ram,size=%dM,mem-path=%s,share=%s", cfg.MemoryMiB, escape(cfg.Memory), share),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-sandbox", sandbox,
		"-global", "virtio-mmio.force-legacy=false",
		// The device state that SaveState writes has no configuration section.
		"-global", "migration.send-configuration=off",
		// QEMU would announce the guest to its network after a load. Nobody there learns addresses, and
		// QEMU 7.2 has crashed when the network was connected before the load (5 of 90 restores).
		"-global", "migration.announce-rounds=0",
		"-chardev", fmt.Sprintf("ringbuf,id=%s,size=%d", consoleID, consoleBytes), "-serial", "chardev:" + consoleID,
		"-qmp", "unix:" + monitorSocket + ",server=on,wait=off",
		"-blockdev", "driver=file,node-name=root0,read-only=on,filename=" + escape(cfg.Root),
		"-blockdev", "driver=raw,node-name=root,read-only=on,file=root0",
		"-device", "virtio-blk-device,drive=root,serial=root",
		"-blockdev", dataFile(cfg),
		"-blockdev", "driver=raw,node-name=" + dataNode + ",discard=unmap,file=" + dataFileNode,
		"-device", "virtio-blk-device,drive=" + dataNode + ",serial=data",
		"-netdev", "stream,id=net0,server=on,addr.type=unix,addr.path=" + networkSocket,
		// No announcement of the network card after a restore: nobody here learns addresses from it, and
		// the guest's answer to it is a sixth of all the code it runs until its agent has answered.
		"-device", "virtio-net-device,netdev=net0,guest_announce=off,mac=" + guest.GuestMAC,
		"-device", "virtio-rng-device",
	}
	if mode == prepare {
		return append(args, "-S", "-incoming", "defer")
	}
	return append(args, "-kernel", cfg.Kernel, "-initrd", cfg.Initrd, "-append", cfg.CommandLine)
}

// dataFile is the writable disk. no-flush: a guest disk only has to outlive the guest, and suspend
// syncs it once, so a guest's own flushes need not wait for the host's disk. No lock: a suspended VM
// may be woken while the paused VMM it had still takes its time to end after a SIGKILL, holding its
// lock; that one never writes again. The caller knows who may.
func dataFile(cfg vmm.Config) string {
	return fmt.Sprintf("driver=file,node-name=%s,locking=off,cache.no-flush=on,discard=unmap,filename=%s", dataFileNode, escape(cfg.Data))
}

// escape doubles commas, as QEMU's option syntax wants.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
