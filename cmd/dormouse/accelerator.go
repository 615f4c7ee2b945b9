package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/dormouse-dev/dormouse/internal/doctor"
	"github.com/dormouse-dev/dormouse/internal/vmm/qemu"
)

// chooseAccelerator takes what the operator chose, or what this host really has, and says which
// isolation that gives.
func chooseAccelerator(ctx context.Context, flag string, log *slog.Logger) (qemu.Accelerator, error) {
	accelerator, why := qemu.Accelerator(flag), "chosen by --accelerator"
	switch flag {
	case string(qemu.KVM), string(qemu.TCG):
	case "auto":
		accelerator, why = doctor.Accelerator(ctx)
	default:
		return "", fmt.Errorf("--accelerator is auto, kvm or tcg, not %q", flag)
	}
	log.Info("isolation", "accelerator", accelerator, "level", doctor.Isolation(accelerator), "why", why)
	return accelerator, nil
}
