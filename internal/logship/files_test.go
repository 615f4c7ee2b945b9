package logship

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
)

func TestFilesAreBoundedAndExpire(t *testing.T) {
	dir := t.TempDir()
	const account = 3 * logfile.MinAppBytes
	files := NewFiles(dir, logfile.MinAppBytes, account, time.Hour)
	now := time.Now()
	text := strings.Repeat("y", 1000)
	for i := range 6 {
		to := loggroup.Destination{AccountID: "1", Region: "r", Group: "../../g", Stream: fmt.Sprint(i)}
		require.NoError(t, files.Put(t.Context(), to, many(2000, func(int) logfile.Line { return line(now, "stdout", text) })))
		path := filepath.Join(dir, to.Path())
		at := now.Add(time.Duration(i) * time.Minute)
		for _, segment := range []string{path, path + ".1"} {
			info, err := os.Stat(segment)
			require.NoError(t, err)
			require.LessOrEqual(t, info.Size(), int64(logfile.MinAppBytes/2))
			require.NoError(t, os.Chtimes(segment, at, at))
		}
	}
	read, err := os.ReadFile(filepath.Join(dir, loggroup.Destination{AccountID: "1", Region: "r", Group: "../../g", Stream: "5"}.Path()))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(read), now.UTC().Format("2006-01-02T15:04:05.000000Z")+" "+text+"\n"))

	require.NoError(t, files.Expire(now))
	left := tree(t, dir)
	var sum int64
	for _, path := range left {
		info, err := os.Stat(path)
		require.NoError(t, err)
		sum += info.Size()
	}
	require.LessOrEqual(t, sum, int64(account))
	require.Greater(t, sum, int64(account/2))
	require.Contains(t, left[0], "1.log", "the oldest went")
	require.Contains(t, left[len(left)-1], "5.log")
	require.NoError(t, files.Expire(now.Add(2*time.Hour)))
	require.Empty(t, tree(t, dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.NoError(t, NewFiles(filepath.Join(dir, "none"), 0, 0, 0).Expire(now))
}

func TestManySmallFilesAreBoundedToo(t *testing.T) {
	dir := t.TempDir()
	files := NewFiles(dir, 0, 10*leastFile, time.Hour)
	for i := range 20 {
		to := loggroup.Destination{AccountID: "1", Region: "r", Group: "g", Stream: fmt.Sprint(i)}
		require.NoError(t, files.Put(t.Context(), to, []logfile.Line{line(time.Now(), "stdout", "x")}))
	}
	require.NoError(t, files.Expire(time.Now()))
	require.Len(t, tree(t, dir), 10)
}

func tree(t *testing.T, dir string) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	return files
}
