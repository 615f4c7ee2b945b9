package rootfs

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/image/ocitest"
)

func FuzzLayersNeverCrashTheFlattening(f *testing.F) {
	f.Add(ocitest.Tar(f, ocitest.File("a/b", "x"), ocitest.Hardlink("c", "a/b"), ocitest.Symlink("d", "../a")),
		ocitest.Tar(f, ocitest.Whiteout(".wh.a"), ocitest.File("d/e", "y")))
	f.Add(ocitest.Tar(f, ocitest.Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "n", Devmajor: 1, Devminor: 3}}),
		ocitest.Tar(f, ocitest.Whiteout("a/.wh..wh..opq"), ocitest.Dir(".", 0o700)))
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		dir := t.TempDir()
		ocitest.Write(t, dir, "", map[string]v1.Image{"": ocitest.Image(t, shell, lower, upper)})
		dst := filepath.Join(dir, "rootfs.ext4")
		_, err := Write(t.Context(), dir, dst, 1<<20)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("a broken image is blamed on the host: %v", err)
			}
			return
		}
		info, err := os.Stat(dst)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(1<<20))
	})
}

// The tree alone is quick enough for the fuzzer to get deep into it.
func FuzzTreeKeepsEveryNameOnce(f *testing.F) {
	f.Add("a", "b/c", ".wh.a", "../b", byte('2'))
	f.Fuzz(func(t *testing.T, one, two, three, target string, kind byte) {
		tree := newTree(100)
		for i, h := range []*tar.Header{
			{Name: one, Linkname: target, Typeflag: kind},
			{Name: two, Typeflag: tar.TypeReg, Size: 1},
			{Name: three, Linkname: one, Typeflag: tar.TypeLink},
			{Name: one + "/" + three, Typeflag: tar.TypeDir},
		} {
			if err := tree.apply(i/2, i%2, h, io.LimitReader(nil, 0)); err != nil && !errors.Is(err, ErrInvalid) {
				t.Fatalf("%q: %v", h.Name, err)
			}
		}
		plan, err := tree.plan(2)
		require.NoError(t, err)
		names := map[string]bool{}
		for _, headers := range [][]*tar.Header{plan.folders, plan.rest, plan.links} {
			for _, h := range headers {
				require.False(t, names[h.Name], "%q twice", h.Name)
				names[h.Name] = true
			}
		}
	})
}
