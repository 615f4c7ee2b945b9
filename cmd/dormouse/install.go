package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/vmm/qemu"
)

// installation is what this host gives: assets, a VMM, and what guests are started with.
type installation struct {
	assets  *assets.Set
	driver  *qemu.Driver
	present snapshot.Machine
	boot    microvm.BootConfig
	network netstack.Config
}

// install finds it all, or says what to do about what is missing.
func install(ctx context.Context, o serveOptions, log *slog.Logger) (in installation, err error) {
	if in.assets, err = assets.Open(o.assets); err != nil {
		return in, fmt.Errorf("--assets %s: %w", o.assets, err)
	}
	accelerator, err := chooseAccelerator(ctx, o.accelerator, log)
	if err != nil {
		return in, err
	}
	if in.driver, err = qemu.New(ctx, "", accelerator); err != nil {
		return in, &failure{err, "what this host lacks: dormouse doctor"}
	}
	in.boot = microvm.BootConfig{Kernel: in.assets.Kernel.Image, Initrd: in.assets.Initramfs.Path, InitrdAll: in.assets.InitramfsAll.Path}
	kernel := in.assets.Kernel.Digest
	if o.kernel != "" {
		if in.boot.Kernel, err = filepath.Abs(o.kernel); err != nil {
			return in, err
		}
		if kernel, err = assets.DigestFile(in.boot.Kernel); err != nil {
			return in, fmt.Errorf("read --kernel: %w", err)
		}
	}
	in.present = snapshot.Machine{VMM: in.driver.Identity(), Kernel: kernel, Initramfs: in.assets.Initramfs.Digest}
	if accelerator == qemu.TCG {
		if in.boot.TSCkHz, err = tscFrequency(); err != nil {
			return in, err
		}
	}
	for _, text := range o.egressPrivate {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return in, usagef("--egress-allow: %q is not a range such as 10.1.0.0/16", text)
		}
		in.network.Policy.AllowPrivate = append(in.network.Policy.AllowPrivate, prefix.Masked())
	}
	// Builders made before their first build may reach what builds may.
	in.network.Policy.Internet = true
	return in, nil
}

// tscFrequency is the frequency of the host's time stamp counter in kHz, as the kernel states it.
// Guests under emulation read that counter and have no timer to calibrate it with.
func tscFrequency() (int, error) {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(name) != "cpu MHz" {
			continue
		}
		mhz, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return 0, fmt.Errorf("read the processor's frequency: %w", err)
		}
		return int(math.Round(mhz * 1000)), nil
	}
	return 0, fmt.Errorf("/proc/cpuinfo does not tell the processor's frequency")
}
