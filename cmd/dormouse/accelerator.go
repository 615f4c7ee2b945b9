package main

import (
	"fmt"
	"log/slog"

	"github.com/dormouse-dev/dormouse/internal/vmm/qemu"
)

func chooseAccelerator(flag string, log *slog.Logger) (qemu.Accelerator, error) {
	switch flag {
	case "kvm", "tcg":
		return qemu.Accelerator(flag), nil
	case "auto":
		return qemu.TCG, nil
	default:
		return "", fmt.Errorf("--accelerator is auto, kvm or tcg, not %q", flag)
	}
}
