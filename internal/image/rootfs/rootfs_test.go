package rootfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/image/ocitest"
)

const testMax = 64 << 20

var shell = v1.Config{Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{"sleep 1"}}

// write flattens an image and has e2fsck agree that the result is a sound file system.
func write(t testing.TB, img v1.Image) (string, Start, error) {
	t.Helper()
	dir := t.TempDir()
	ocitest.Write(t, dir, "", map[string]v1.Image{"": img})
	dst := filepath.Join(dir, "rootfs.ext4")
	start, err := Write(t.Context(), dir, dst, testMax)
	if err != nil {
		left, globErr := filepath.Glob(filepath.Join(dir, "*rootfs*"))
		require.NoError(t, globErr)
		require.Empty(t, left, "nothing is left of a failed attempt")
		return "", start, err
	}
	out, _ := exec.Command("e2fsck", "-fn", dst).CombinedOutput()
	require.Contains(t, string(out), "non-contiguous", "e2fsck came to its end")
	// tar2ext4 leaves bits unset that stand for no inode; the kernel never looks at them.
	complaints := strings.ReplaceAll(string(out), "Padding at end of inode bitmap is not set. Fix? no", "")
	require.NotContains(t, complaints, "? no")
	return dst, start, nil
}

// debugfs runs one request on the file system, as a second implementation of ext4.
func debugfs(t testing.TB, file, request string) string {
	t.Helper()
	out, err := exec.Command("debugfs", "-R", request, file).Output()
	require.NoError(t, err)
	return string(out)
}

func TestFlattenKeepsOwnersModesLinksDevicesAndAttributes(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	file, _, err := write(t, ocitest.Image(t, shell, ocitest.Tar(t,
		ocitest.Dir("tmp/", 0o1777),
		ocitest.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "bin/ping", Mode: 0o4755, Uid: 7, Gid: 70_000,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability,
				"SCHILY.xattr.system.posix_acl_access": "x", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.note": "kept"}}, Body: "ping"},
		ocitest.Hardlink("bin/ping6", "bin/ping"),
		ocitest.Symlink("etc/mtab", "/proc/self/mounts"),
		ocitest.Symlink("long", strings.Repeat("d/", 100)+"end"),
		ocitest.Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
		ocitest.Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "run/pipe", Mode: 0o600}},
		ocitest.File("empty", ""),
	)))
	require.NoError(t, err)

	require.Regexp(t, `Type: directory +Mode: +01777`, debugfs(t, file, "stat /tmp"))
	ping := debugfs(t, file, "stat /bin/ping")
	require.Regexp(t, `Mode: +04755`, ping)
	require.Regexp(t, `User: +7 +Group: 70000`, ping)
	require.Contains(t, ping, "Links: 2")
	require.Contains(t, ping, "security.capability")
	require.Contains(t, ping, "user.note")
	require.NotContains(t, ping, "posix_acl")
	require.NotContains(t, ping, "overlay")
	require.Equal(t, firstLine(ping), firstLine(debugfs(t, file, "stat /bin/ping6")), "one inode")
	require.Contains(t, debugfs(t, file, "stat /etc/mtab"), `"/proc/self/mounts"`)
	require.Contains(t, debugfs(t, file, "cat /long"), "d/d/d/")
	require.Contains(t, debugfs(t, file, "stat /dev/null"), "Device major/minor number: 01:03")
	require.Regexp(t, `Type: FIFO`, debugfs(t, file, "stat /run/pipe"))
	require.Contains(t, debugfs(t, file, "stat /empty"), "Size: 0")
}

func firstLine(s string) string { line, _, _ := strings.Cut(s, "   "); return line }

func TestUpperLayersHideAndReplace(t *testing.T) {
	file, _, err := write(t, ocitest.Image(t, shell,
		ocitest.Tar(t, ocitest.File("a", "old a"), ocitest.Hardlink("b", "a"), ocitest.Hardlink("c", "a"),
			ocitest.File("gone", "x"), ocitest.File("dir/gone", "x"), ocitest.File("dir/sub/gone", "x"),
			ocitest.File("swap/file", "x"), ocitest.File("kept/x", "x"), ocitest.Dir("mode", 0o755)),
		ocitest.Tar(t, ocitest.File("a", "new a"), ocitest.Whiteout(".wh.c"), ocitest.Whiteout(".wh.gone"),
			ocitest.Dir("dir/sub", 0o700), ocitest.File("dir/sub/new", "new"), ocitest.Whiteout("dir/.wh..wh..opq"),
			ocitest.File("swap", "now a file"), ocitest.Dir("mode", 0o711), ocitest.Whiteout(".wh.never-there")),
	))
	require.NoError(t, err)

	require.Equal(t, "new a", debugfs(t, file, "cat /a"))
	require.Equal(t, "old a", debugfs(t, file, "cat /b"), "the other name of a replaced file keeps its content")
	require.Equal(t, "now a file", debugfs(t, file, "cat /swap"))
	require.Equal(t, "new", debugfs(t, file, "cat /dir/sub/new"))
	require.Regexp(t, `Mode: +0711`, debugfs(t, file, "stat /mode"))
	root := debugfs(t, file, "ls -p /")
	for _, gone := range []string{"/c/", "/gone/", ".wh."} {
		require.NotContains(t, root, gone)
	}
	require.NotContains(t, debugfs(t, file, "ls -p /dir"), "/gone/")
	require.NotContains(t, debugfs(t, file, "ls -p /dir/sub"), "/gone/")
	require.Contains(t, debugfs(t, file, "ls -p /kept"), "/x/")
}

// What a library's top-down stream makes of this is an error, which is why it is not used.
func TestAHardLinkOutlivesItsFirstName(t *testing.T) {
	img := ocitest.Image(t, shell,
		ocitest.Tar(t, ocitest.File("usr/bin/perl", "perl"), ocitest.Hardlink("usr/bin/perl5.36", "usr/bin/perl")),
		ocitest.Tar(t, ocitest.Whiteout("usr/bin/.wh.perl")))
	file, _, err := write(t, img)
	require.NoError(t, err)
	require.Equal(t, "perl", debugfs(t, file, "cat /usr/bin/perl5.36"))

	stream := tar.NewReader(mutate.Extract(img))
	header, err := stream.Next()
	require.NoError(t, err)
	require.Equal(t, tar.TypeLink, rune(header.Typeflag), "to a file that is not in the stream")
}

func TestFilesBehindLinkedFoldersLandWhereTheLinkLeads(t *testing.T) {
	file, _, err := write(t, ocitest.Image(t, shell,
		ocitest.Tar(t, ocitest.Dir("usr/lib", 0o755), ocitest.Symlink("lib", "usr/lib"), ocitest.Symlink("abs", "/usr/../../usr/lib")),
		ocitest.Tar(t, ocitest.File("lib/libc.so", "libc"), ocitest.File("abs/libm.so", "libm"), ocitest.Hardlink("lib/libm2.so", "abs/libm.so")),
	))
	require.NoError(t, err)
	require.Contains(t, debugfs(t, file, "stat /lib"), `"usr/lib"`)
	require.Equal(t, "libc", debugfs(t, file, "cat /usr/lib/libc.so"))
	require.Equal(t, "libm", debugfs(t, file, "cat /usr/lib/libm2.so"))
}

func TestHostileNamesStayInside(t *testing.T) {
	file, _, err := write(t, ocitest.Image(t, shell, ocitest.Tar(t,
		ocitest.File("../../up", "1"), ocitest.File("/absolute", "2"), ocitest.File("a/../../b", "3"),
		ocitest.Symlink("out", "../../.."), ocitest.File("out/through", "4"),
		ocitest.Symlink("etc", "/"), ocitest.Hardlink("etc/passwd", "../../../up"),
	)))
	require.NoError(t, err)
	for name, want := range map[string]string{"up": "1", "absolute": "2", "b": "3", "through": "4", "passwd": "1"} {
		require.Equal(t, want, debugfs(t, file, "cat /"+name))
	}
}

func TestCompressedLayersAreUnderstood(t *testing.T) {
	plain := ocitest.Tar(t, ocitest.File("a", "content"))
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	encoder, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	for name, layer := range map[string]v1.Layer{
		"gzip":        ocitest.Layer(zipped.Bytes(), types.OCILayer),
		"docker gzip": ocitest.Layer(zipped.Bytes(), types.DockerLayer),
		"zstd":        ocitest.Layer(encoder.EncodeAll(plain, nil), types.OCILayerZStd),
		"docker tar":  ocitest.Layer(plain, types.DockerUncompressedLayer),
	} {
		t.Run(name, func(t *testing.T) {
			file, _, err := write(t, ocitest.ImageOf(t, shell, layer))
			require.NoError(t, err)
			require.Equal(t, "content", debugfs(t, file, "cat /a"))
		})
	}
}

func TestStartJoinsEntrypointAndCommand(t *testing.T) {
	for name, c := range map[string]struct {
		config v1.Config
		want   Start
	}{
		"both": {v1.Config{Entrypoint: []string{"a"}, Cmd: []string{"b", "c"}, WorkingDir: "/srv/", User: "app:www", Env: []string{"A=1"}, Volumes: map[string]struct{}{"/b/c": {}, "/b": {}, "a/../../x": {}}},
			Start{Args: []string{"a", "b", "c"}, Env: []string{"A=1"}, WorkDir: "/srv", User: "app:www", Volumes: []string{"/b", "/b/c", "/x"}}},
		"command only":       {v1.Config{Cmd: []string{"b"}}, Start{Args: []string{"b"}, WorkDir: "/"}},
		"relative directory": {v1.Config{Cmd: []string{"b"}, WorkingDir: "../x"}, Start{Args: []string{"b"}, WorkDir: "/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, start, err := write(t, ocitest.Image(t, c.config, ocitest.Tar(t, ocitest.File("a", ""))))
			require.NoError(t, err)
			require.Equal(t, c.want, start)
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	file := ocitest.Tar(t, ocitest.File("a", ""))
	layerOf := func(entries ...ocitest.Entry) v1.Image { return ocitest.Image(t, shell, ocitest.Tar(t, entries...)) }
	many := make([]ocitest.Entry, testMax/bytesPerInode+1)
	for i := range many {
		many[i] = ocitest.File(fmt.Sprint(i), "")
	}
	for name, c := range map[string]struct {
		img  v1.Image
		want error
	}{
		"no command":               {ocitest.Image(t, v1.Config{}, file), ErrNoCommand},
		"another processor":        {otherPlatform(t, ocitest.Image(t, shell, file)), ErrPlatform},
		"a layer that is no tar":   {ocitest.Image(t, shell, bytes.Repeat([]byte("x"), 1024)), ErrInvalid},
		"a layer that is no gzip":  {ocitest.ImageOf(t, shell, ocitest.Layer(file, types.OCILayer)), ErrInvalid},
		"an unknown kind of layer": {ocitest.ImageOf(t, shell, ocitest.Layer(file, "application/x")), ErrInvalid},
		"a hard link to nothing":   {layerOf(ocitest.Hardlink("a", "b")), ErrInvalid},
		"a hard link to a folder":  {layerOf(ocitest.Dir("b", 0o755), ocitest.Hardlink("a", "b")), ErrInvalid},
		"a link loop":              {layerOf(ocitest.Symlink("a", "b"), ocitest.Symlink("b", "a"), ocitest.File("a/x", "")), ErrInvalid},
		"a file below a file":      {layerOf(ocitest.File("a", ""), ocitest.File("a/x", "")), ErrInvalid},
		"a long name":              {layerOf(ocitest.File(strings.Repeat("a", 256), "")), ErrInvalid},
		"a long path":              {layerOf(ocitest.File(strings.Repeat("a/", 2500)+"a", "")), ErrInvalid},
		"too many files":           {layerOf(many...), ErrTooLarge},
		"too much content":         {layerOf(ocitest.File("a", strings.Repeat("x", testMax))), ErrTooLarge},
		"long attributes": {layerOf(ocitest.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a",
			PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", 5000)}}}), ErrInvalid},
		"attributes that do not fit": {layerOf(ocitest.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a",
			PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", 4080)}}}), ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := write(t, c.img)
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestABlobThatLiesAboutItsDigestIsRefused(t *testing.T) {
	img := ocitest.Image(t, shell, ocitest.Tar(t, ocitest.File("a", "good")))
	layers, err := img.Layers()
	require.NoError(t, err)
	layer, err := layers[0].Digest()
	require.NoError(t, err)
	manifest, err := img.Digest()
	require.NoError(t, err)
	config, err := img.ConfigName()
	require.NoError(t, err)
	for name, digest := range map[string]v1.Hash{"layer": layer, "manifest": manifest, "configuration": config} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ocitest.Write(t, dir, "", map[string]v1.Image{"": img})
			blob := blobPath(dir, digest)
			data, err := os.ReadFile(blob)
			require.NoError(t, err)
			data = append(bytes.Replace(data, []byte("good"), []byte("evil"), 1), '\n')
			require.NoError(t, os.Chmod(blob, 0o600))
			require.NoError(t, os.WriteFile(blob, data, 0o600))
			_, err = Write(t.Context(), dir, filepath.Join(dir, "rootfs.ext4"), testMax)
			require.ErrorIs(t, err, ErrInvalid)
			require.NoFileExists(t, filepath.Join(dir, "rootfs.ext4"))
		})
	}
}

func otherPlatform(t *testing.T, img v1.Image) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	require.NoError(t, err)
	config = config.DeepCopy()
	config.Architecture = "sparc"
	img, err = mutate.ConfigFile(img, config)
	require.NoError(t, err)
	return img
}
