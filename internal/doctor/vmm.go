package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/dormouse-dev/dormouse/internal/vmm/kvm"
	"github.com/dormouse-dev/dormouse/internal/vmm/qemu"
)

// The oldest QEMU everything was measured with.
const qemuMajor, qemuMinor = 7, 2

const setupFix = "run `make setup`"

// acceleratorFinding takes what opening KVM's device gave, too.
func acceleratorFinding(accelerator qemu.Accelerator, why string, opened error) Finding {
	f := Finding{Name: "accelerator", Status: OK, Detail: fmt.Sprintf("%s: %s", accelerator, why)}
	if accelerator == qemu.TCG {
		f.Status = Warn
		f.Fix = "for speed and isolation, use a host with hardware virtualization, where your user may open " + kvm.Device
		if errors.Is(opened, fs.ErrPermission) {
			f.Fix = "as root, run `usermod -aG kvm USER` for your user, then log in again"
		}
	}
	return f
}

// openKVM tries whether this user may use KVM.
func openKVM() error {
	device, err := os.OpenFile(kvm.Device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return device.Close()
}

func isolationFinding(accelerator qemu.Accelerator) Finding {
	f := Finding{Name: "isolation", Status: OK, Detail: Isolation(accelerator)}
	if accelerator != qemu.KVM {
		f.Status = Warn
		f.Fix = "do not run strangers' code here without another boundary around Dormouse"
	}
	return f
}

// qemuIdentity is the driver's own word for what it would run: "qemu 7.2.22 (Debian …), …".
func qemuIdentity(ctx context.Context, binary string, accelerator qemu.Accelerator) (string, error) {
	driver, err := qemu.New(ctx, binary, accelerator)
	if err != nil {
		return "", err
	}
	return driver.Identity(), nil
}

func qemuFinding(identity string, err error) Finding {
	f := Finding{Name: "QEMU", Status: OK, Detail: identity}
	if err != nil {
		f.Status, f.Detail, f.Fix = Fail, err.Error(), setupFix
		return f
	}
	if major, minor, ok := version(identity); ok && (major < qemuMajor || major == qemuMajor && minor < qemuMinor) {
		f.Status = Fail
		f.Fix = fmt.Sprintf("install QEMU %d.%d or newer", qemuMajor, qemuMinor)
	}
	return f
}

// version reads the first "N.N" of a text that begins with a name.
func version(identity string) (major, minor int, ok bool) {
	fields := strings.Fields(identity)
	if len(fields) < 2 {
		return 0, 0, false
	}
	parts := strings.Split(fields[1], ".")
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return major, minor, err == nil && err2 == nil
}

// findMke2fs looks where ordinary users' PATH does not, too.
func findMke2fs() (path string, err error) {
	if path, err = exec.LookPath("mke2fs"); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/mke2fs")
}

func mke2fsFinding(path string, err error) Finding {
	switch {
	case err == nil:
		return Finding{Name: "mke2fs", Status: OK, Detail: path}
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return Finding{Name: "mke2fs", Status: Fail, Detail: "not found; it makes the disks of images", Fix: "install e2fsprogs, or " + setupFix}
	}
	return Finding{Name: "mke2fs", Status: Fail, Detail: err.Error(), Fix: setupFix}
}

func assetsFinding(err error) Finding {
	if err != nil {
		return Finding{Name: "assets", Status: Fail, Detail: err.Error(), Fix: setupFix}
	}
	return Finding{Name: "assets", Status: OK, Detail: "guest kernel, agent, base images and builder are complete"}
}
