// Package doctor says what this host offers Dormouse and what is missing, with the fix for each.
package doctor

import (
	"context"

	"github.com/dormouse-dev/dormouse/internal/vmm/kvm"
	"github.com/dormouse-dev/dormouse/internal/vmm/qemu"
)

// Status is how a finding bears on running microVMs here.
type Status string

const (
	OK   Status = "ok"
	Warn Status = "warn" // works, with a limit the detail names
	Fail Status = "fail" // microVMs do not run until it is fixed
)

// Finding is one thing that was looked at.
type Finding struct {
	Name   string `json:"name"` // "accelerator", "isolation", "QEMU", …
	Status Status `json:"status"`
	Detail string `json:"detail"`        // what was found
	Fix    string `json:"fix,omitempty"` // what to do about it; empty when there is nothing to do
}

// Config says what to look at.
type Config struct {
	// DataDir is the data folder; it need not exist yet.
	DataDir string
	// QEMU is the binary; "" is the one the driver takes.
	QEMU string
	// Accelerator is the operator's choice; "" is what Accelerator picks.
	Accelerator qemu.Accelerator
	// Assets opens and verifies what set-up made; its error says what is missing and what to do. Required.
	Assets func() error
}

// Check looks at everything, which takes up to a few seconds, and returns the findings in a fixed
// order. It changes nothing on the host. What a cancelled context cuts short is a finding too.
func Check(ctx context.Context, cfg Config) []Finding {
	accelerator, why := cfg.Accelerator, "chosen by the operator"
	if accelerator == "" {
		accelerator, why = Accelerator(ctx)
	}
	identity, err := qemuIdentity(ctx, cfg.QEMU, accelerator)
	return []Finding{
		acceleratorFinding(accelerator, why, openKVM()),
		isolationFinding(accelerator),
		qemuFinding(identity, err),
		mke2fsFinding(findMke2fs()),
		assetsFinding(cfg.Assets()),
		namespaceFinding(tryUserNamespace(ctx), privileged(), namespaceSettings()),
		spaceFinding(freeSpace(cfg.DataDir)),
		reflinkFinding(tryReflink(cfg.DataDir)),
		limitsFinding(readLimits()),
		memoryFinding(tryChildMemory(ctx), ptraceScope(), privileged()),
		scanFinding(tryPagemapScan()),
	}
}

// Healthy says whether microVMs can run: nothing failed.
func Healthy(findings []Finding) bool {
	for _, f := range findings {
		if f.Status == Fail {
			return false
		}
	}
	return true
}

// Isolation words what separates a guest from the host.
func Isolation(a qemu.Accelerator) string {
	if a == qemu.KVM {
		return "hardware virtualization"
	}
	return "software emulation: for development and CI; QEMU does not treat TCG as a security boundary, the process sandbox is the boundary"
}

// Accelerator picks how guests run on this host, and says why. It takes up to two seconds.
func Accelerator(ctx context.Context) (accelerator qemu.Accelerator, why string) {
	if err := kvm.Usable(ctx); err != nil {
		return qemu.TCG, "KVM is not usable: " + err.Error()
	}
	return qemu.KVM, kvm.Device + " runs guest kernels in hardware"
}
