package qemu

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Any change here makes every snapshot unusable that exists already.
func TestTheMachineIsTheOneSnapshotsWereTakenOf(t *testing.T) {
	config := vmm.Config{
		Dir: "/run/1", CPUs: 2, MemoryMiB: 4096, Memory: "/images/a,b/memory", Root: "/images/a,b/rootfs.img",
		Data: "/run/1/disk.img",
	}
	booted := config
	booted.Data, booted.Kernel, booted.Initrd, booted.CommandLine = "/images/a,b/disk.img", "/boot/kernel", "/boot/initrd", "console=ttyS0 quiet"
	for name, arguments := range map[string][]string{
		"prepare-tcg": (&Driver{accelerator: TCG}).arguments(config, prepare),
		"prepare-kvm": (&Driver{accelerator: KVM}).arguments(config, prepare),
		"boot-tcg":    (&Driver{accelerator: TCG}).arguments(booted, boot),
	} {
		t.Run(name, func(t *testing.T) {
			golden := filepath.Join("testdata", name+".txt")
			got := strings.Join(arguments, "\n") + "\n"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got)
		})
	}
}

func TestBootedAndRestoredMachinesHaveTheSameDevices(t *testing.T) {
	d, config := &Driver{accelerator: TCG}, vmm.Config{CPUs: 1, MemoryMiB: 512, Data: "/disk.img"}
	devices := func(mode mode) (found []string) {
		arguments := d.arguments(config, mode)
		for i, a := range arguments {
			if a == "-device" || a == "-M" || a == "-cpu" || a == "-smp" || a == "-m" {
				found = append(found, arguments[i+1])
			}
		}
		return found
	}
	require.Equal(t, devices(boot), devices(prepare))
}
