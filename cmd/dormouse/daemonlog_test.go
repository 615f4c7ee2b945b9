package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheDaemonsLogIsBoundedWhileItRuns(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, daemonLog)
	file, err := openLogFile(path)
	require.NoError(t, err)
	defer file.Close()
	log := &boundedLog{path: path, older: filepath.Join(dir, daemonLogOld), most: 1000, file: file, descriptors: []int{int(file.Fd())}}
	line := func(i int) string { return fmt.Sprintf("%099d\n", i) }
	for i := range 50 {
		_, err := fmt.Fprint(log, line(i))
		require.NoError(t, err)
	}
	older, err := os.ReadFile(log.older)
	require.NoError(t, err)
	newer, err := os.ReadFile(path)
	require.NoError(t, err)
	require.LessOrEqual(t, len(older), 1100)
	require.LessOrEqual(t, len(newer), 1100)
	var last strings.Builder
	for i := range (len(older) + len(newer)) / 100 {
		last.WriteString(line(50 - (len(older)+len(newer))/100 + i))
	}
	require.Equal(t, last.String(), string(older)+string(newer), "nothing is lost between the two")

	require.NoError(t, os.Mkdir(filepath.Join(dir, "full"), 0o700))
	log.older, log.size = filepath.Join(dir, "full"), 2000
	_, err = fmt.Fprint(log, "still here\n")
	require.NoError(t, err, "a log that cannot be moved is written on")
	newer, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(newer), "still here")

	require.Equal(t, os.Stderr, daemonOutput(dir), "only the log itself is")
}
