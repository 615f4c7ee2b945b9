package floor

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCopySparseKeepsDataAndHoles(t *testing.T) {
	const size = 64 << 20 // bytes, nearly all of them a hole
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	file, err := os.Create(from)
	require.NoError(t, err)
	require.NoError(t, file.Truncate(size))
	for offset, text := range map[int64]string{0: "first", 8 << 20: "middle", size - 4: "last"} {
		_, err := file.WriteAt([]byte(text), offset)
		require.NoError(t, err)
	}
	require.NoError(t, file.Close())

	require.NoError(t, copySparse(to, from))

	want, err := os.ReadFile(from)
	require.NoError(t, err)
	got, err := os.ReadFile(to)
	require.NoError(t, err)
	require.Equal(t, want, got)
	info, err := os.Stat(to)
	require.NoError(t, err)
	require.Less(t, info.Sys().(*syscall.Stat_t).Blocks*512, int64(1<<20))
}

func TestExtentsCountBytes(t *testing.T) {
	require.Equal(t, int64(3*pageSize), extents{{first: 0, count: 1}, {first: 7, count: 2}}.bytes())
}
