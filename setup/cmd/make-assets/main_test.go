package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHolesTakeNoSpace(t *testing.T) {
	dir := t.TempDir()
	before := diskUsage(dir)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "in"), 0o700))
	file, err := os.Create(filepath.Join(dir, "in", "file"))
	require.NoError(t, err)
	_, err = file.WriteString(strings.Repeat("x", 1<<20))
	require.NoError(t, err)
	require.NoError(t, file.Sync()) // some file systems allocate late
	require.NoError(t, file.Close())
	hole, err := os.Create(filepath.Join(dir, "hole"))
	require.NoError(t, err)
	require.NoError(t, hole.Truncate(1<<30))
	require.NoError(t, hole.Close())
	require.InDelta(t, 1<<20, diskUsage(dir)-before, 64<<10)
}
