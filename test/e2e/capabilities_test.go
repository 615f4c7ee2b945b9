package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/guest/initramfs"
)

// probed is what test/e2e/probe tells.
type probed struct {
	CapEff  string
	NoFile  unix.Rlimit
	Tried   map[string]string
	Modules []string
	Nested  struct {
		PID              int
		Hostname         string
		Interfaces, Root []string
	}
}

// probeArchive is a code artifact of test/e2e/probe, with the runc of set-up. Of its volumes one is empty
// and becomes one, the other keeps what the image has there.
func probeArchive(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(dir, "probe"), "./probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	files := map[string]string{"Dockerfile": `FROM scratch
COPY --chmod=0755 probe runc /
COPY --chmod=0755 probe /lower/probe
VOLUME /data /lower
ENTRYPOINT ["/probe"]
`}
	for name, path := range map[string]string{
		"probe": filepath.Join(dir, "probe"), "runc": filepath.Join(assets.DefaultDir(), assets.RuncAsset, assets.Runc),
	} {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		files[name] = string(content)
	}
	return zipFiles(t, files)
}

func TestAnAppMayDoWhatItsImagesCapabilitiesSay(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	archive := probeArchive(t)

	t.Run("default", func(t *testing.T) {
		t.Parallel()
		image := h.build(t, archive, nil)
		takeRoom(t, 1)
		v := h.runUntilRunning(t, image.arn, nil)
		var got probed
		v.read("/", &got)
		require.Equal(t, "00000000a80425fb", got.CapEff) // spec/behaviour.md 11
		require.Equal(t, unix.Rlimit{Cur: 1024, Max: 1024}, got.NoFile)
		for name, refusal := range map[string]string{
			"mount": "operation not permitted", "overlay": "operation not permitted",
			"mount namespace": "operation not permitted", "network namespace": "operation not permitted",
			"user namespace": "no space left on device", // the limit is none
			"eBPF":           "operation not permitted", "eBPF tracing": "operation not permitted",
			"FUSE": "no such file or directory", "tun": "no such file or directory", "loop": "no such file or directory",
			"device": "permission denied", "disk": "permission denied",
			"veth": "operation not permitted", "bridge": "operation not permitted",
			"cgroup": "no such file or directory", "sysctl": "read-only file system", "nested container": "operation not permitted",
		} {
			require.Contains(t, got.Tried[name], refusal, name)
			delete(got.Tried, name)
		}
		require.Empty(t, got.Tried)
		for _, module := range initramfs.Nested {
			require.NotContains(t, got.Modules, module)
		}
	})

	t.Run("ALL", func(t *testing.T) {
		t.Parallel()
		image := h.build(t, archive, object{"additionalOsCapabilities": []string{"ALL"}})
		takeRoom(t, 1)
		v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})
		for _, round := range []string{"after a launch", "after a suspend"} {
			var got probed
			v.read("/", &got)
			require.Equal(t, "000001ffffffffff", got.CapEff)
			for name, failure := range got.Tried {
				require.Empty(t, failure, "%s, %s", name, round)
			}
			require.Equal(t, 1, got.Nested.PID)
			require.Equal(t, "nested", got.Nested.Hostname)
			require.Equal(t, []string{"lo"}, got.Nested.Interfaces)
			require.Equal(t, []string{"dev", "probe", "proc"}, got.Nested.Root)
			require.Subset(t, got.Modules, initramfs.Nested)
			v.suspend()
		}
	})
}
