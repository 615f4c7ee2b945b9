package assets

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// makeAssets lays out a small but complete asset folder.
func makeAssets(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	all := filepath.Join(dir, InitramfsAsset, InitramfsAllImage)
	require.NoError(t, os.MkdirAll(filepath.Dir(all), 0o755))
	require.NoError(t, os.WriteFile(all, []byte("more modules"), 0o644))
	for asset, file := range map[string]string{
		KernelAsset:    KernelImage,
		AgentAsset:     AgentBinary,
		InitramfsAsset: InitramfsImage,
		BaseAsset:      filepath.Join(BaseLayout, "index.json"),
		BuilderAsset:   BuilderRootfs,
	} {
		path := filepath.Join(dir, asset, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("content of "+asset), 0o644))
		m := &Manifest{Asset: asset, Inputs: map[string]string{"recipe": "1"}}
		switch asset {
		case KernelAsset:
			m.Version = "6.1.0-1-cloud-amd64"
		case BuilderAsset:
			m.Boot = &guest.BootRequest{Args: []string{"/start"}, AllCapabilities: true}
		}
		require.NoError(t, m.Seal(filepath.Join(dir, asset)))
	}
	return dir
}

func TestOpenFindsEveryAsset(t *testing.T) {
	dir := makeAssets(t)
	set, err := Open(dir)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "kernel/vmlinuz"), set.Kernel.Image)
	require.Equal(t, "6.1.0-1-cloud-amd64", set.Kernel.Version)
	require.Equal(t, filepath.Join(dir, "agent/dormouse-guest"), set.Agent.Path)
	require.EqualValues(t, len("content of initramfs"), set.Initramfs.Size)
	require.EqualValues(t, len("more modules"), set.InitramfsAll.Size)
	require.Equal(t, filepath.Join(dir, "base/layout"), set.Base)
	require.Equal(t, []string{"/start"}, set.Builder.Boot.Args)
	for _, digest := range []string{set.Kernel.Digest, set.Agent.Digest, set.BaseDigest, set.Builder.Digest} {
		require.Regexp(t, "^sha256:[0-9a-f]{64}$", digest)
	}
	require.NoError(t, set.Verify())
}

func TestOpenSaysWhatIsIncompleteAndWhatToRun(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir string) error
		want   string
	}{
		"no asset at all":   {os.RemoveAll, "asset kernel is missing"},
		"asset missing":     {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "base")) }, "asset base is missing"},
		"file missing":      {func(dir string) error { return os.Remove(filepath.Join(dir, "kernel/vmlinuz")) }, "vmlinuz is missing"},
		"file cut short":    {func(dir string) error { return os.Truncate(filepath.Join(dir, "builder/rootfs.ext4"), 3) }, "has 3 bytes instead of 18"},
		"manifest is empty": {func(dir string) error { return os.Truncate(filepath.Join(dir, "agent/manifest.json"), 0) }, "asset agent: read its manifest"},
		"manifest names no file": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "agent/manifest.json"), []byte(`{"asset":"agent"}`), 0o644)
		}, "asset agent has no dormouse-guest"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := makeAssets(t)
			require.NoError(t, c.damage(dir))
			_, err := Open(dir)
			require.ErrorIs(t, err, ErrIncomplete)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "make setup")
		})
	}
}

func TestVerifySeesAChangedByte(t *testing.T) {
	dir := makeAssets(t)
	set, err := Open(dir)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(set.Agent.Path, []byte("Content of agent"), 0o644))
	_, err = Open(dir)
	require.NoError(t, err, "Open looks at sizes only")
	require.ErrorIs(t, set.Verify(), ErrIncomplete)
}

func TestBuilderDigestChangesWithItsBootRequest(t *testing.T) {
	dir := filepath.Join(makeAssets(t), BuilderAsset)
	before, err := ReadManifest(dir)
	require.NoError(t, err)
	after, err := ReadManifest(dir)
	require.NoError(t, err)
	require.Equal(t, before.Digest(), after.Digest())
	after.Boot.Env = append(after.Boot.Env, "A=B")
	require.NotEqual(t, before.Digest(), after.Digest())
}

func TestDefaultDirFollowsTheEnvironment(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("DORMOUSE_ASSETS", "")
	require.Equal(t, "/home/someone/.cache/dormouse", DefaultDir())
	t.Setenv("XDG_CACHE_HOME", "/cache")
	require.Equal(t, "/cache/dormouse", DefaultDir())
	t.Setenv("DORMOUSE_ASSETS", "/assets")
	require.Equal(t, "/assets", DefaultDir())
}
