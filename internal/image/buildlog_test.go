package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/loggroup"
)

func TestALogIsCutButItsEndIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := createLog(path, false)
	require.NoError(t, err)
	line := []byte(strings.Repeat("x", 1<<20-1) + "\n")
	for range 20 {
		n, err := l.Write(line)
		require.NoError(t, err)
		require.Equal(t, len(line), n)
	}
	_, err = l.Write([]byte("last words"))
	require.NoError(t, err)
	l.note("The build %s", "failed")
	require.Contains(t, l.lastLines(), "last words\n==> The build failed\n")
	require.NoError(t, l.close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Less(t, len(text), maxLog+1024)
	require.Contains(t, string(text[maxLog:]), "the log is cut here")
	require.True(t, strings.HasSuffix(string(text), "==> The build failed\n"))
}

func TestTheTailHasFiftyLinesOfValidText(t *testing.T) {
	for name, c := range map[string]struct {
		written string
		lines   int
		end     string
	}{
		"nothing":          {"", 0, ""},
		"few lines":        {"a\nb", 2, "a\nb"},
		"many lines":       {strings.Repeat("a\n", 200) + "z\n", 50, "a\nz\n"},
		"long lines":       {strings.Repeat(strings.Repeat("a", 10_000)+"\n", 50), 2, "a\n"},
		"no text":          {"a\xff\x00b\n", 1, "a\uFFFD\x00b\n"},
		"a line of binary": {strings.Repeat("\xff", 100_000), 1, "\uFFFD"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := createLog(filepath.Join(t.TempDir(), "log"), false)
			require.NoError(t, err)
			_, err = l.Write([]byte(c.written))
			require.NoError(t, err)
			tail := l.lastLines()
			require.Len(t, strings.FieldsFunc(tail, func(r rune) bool { return r == '\n' }), c.lines)
			require.True(t, strings.HasSuffix(tail, c.end))
			require.LessOrEqual(t, len(tail), 3*tailBytes)
			require.NoError(t, l.close())
		})
	}
}

func TestALogCanBeReadWhileItGrowsAndContinued(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := createLog(path, false)
	require.NoError(t, err)
	_, err = l.Write([]byte("first"))
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "first", string(text))
	require.NoError(t, l.close())

	l, err = openLog(path)
	require.NoError(t, err)
	l.note("second")
	require.Equal(t, "first\n==> second\n", l.lastLines())
	require.NoError(t, l.close())
	text, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "first\n==> second\n", string(text))
}

func TestTheLogOfAnImageWithoutLoggingHasOnlyOurNotes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "builds", "x.log")
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
	l, err := createLog(path, true)
	require.NoError(t, err)
	n, err := l.Write([]byte("secret\n"))
	require.NoError(t, err)
	require.Equal(t, 7, n)
	l.begin(loggroup.SnapshotPart)
	l.note("The image is ready")
	require.NotContains(t, l.lastLines(), "secret")
	require.NoError(t, l.close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(text), "secret")
	require.Contains(t, string(text), "==> The image is ready\n")
	require.NoFileExists(t, partsFile(path), "there is nothing to send on")
}

func TestTheLogTellsWhereItsPartsBegin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "builds", "x.log")
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
	l, err := createLog(path, false)
	require.NoError(t, err)
	_, err = l.Write([]byte("step 1\n"))
	require.NoError(t, err)
	l.begin(loggroup.SnapshotPart)
	l.note("Booting")
	l.begin(loggroup.ValidatePart)
	require.NoError(t, l.close())
	text, err := os.ReadFile(partsFile(path))
	require.NoError(t, err)
	require.Equal(t, "build 0\nsnapshot 7\nvalidate 19\n", string(text))
	l.discard()
	require.NoFileExists(t, partsFile(path))
}
