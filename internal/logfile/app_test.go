package logfile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const id = "microvm-1"

var noon = time.Date(2026, 11, 25, 12, 0, 0, 123456000, time.UTC)

// bench is a folder of logs.
type bench struct {
	*Folder
	t *testing.T
}

func newBench(t *testing.T, appBytes int64) *bench {
	return &bench{NewFolder(filepath.Join(t.TempDir(), "logs"), appBytes), t}
}

// wrote appends what an app wrote from a position on and returns the next position.
func (b *bench) wrote(a *App, position int64, stream, text string) int64 {
	b.t.Helper()
	require.NoError(b.t, a.Append(position, stream, noon, []byte(text)))
	return position + int64(len(text))
}

// text is the app's log as readers see it, without times.
func (b *bench) text() string {
	b.t.Helper()
	r, err := Open(b.Path(id, AppName), nil)
	require.NoError(b.t, err)
	defer r.Close()
	return plain(b.t, r)
}

func plain(t *testing.T, r io.Reader) string {
	t.Helper()
	decoded := NewText(r)
	all, err := io.ReadAll(decoded)
	require.NoError(t, err)
	all = decoded.Rest(all)
	return strings.ReplaceAll(string(all), noon.Format(timeForm)+" ", "")
}

func TestLinesCarryTimeAndStreamWhateverPiecesTheyCameIn(t *testing.T) {
	b := newBench(t, 0)
	a := b.App(id)
	next := b.wrote(a, 0, "stdout", "one\ntw")
	next = b.wrote(a, next, "stderr", "oops\n\n")
	next = b.wrote(a, next, "stdout", "o\x1b[31m\r\xff")
	b.wrote(a, next, "stdout", "\nthree")
	raw, err := os.ReadFile(b.Path(id, AppName))
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(`T stdout F one
T stdout P tw
T stderr F oops
T stderr F 
T stdout P o`+"\x1b[31m\r\xff"+`
T stdout F 
T stdout P three
`, "T", "2026-11-25T12:00:00.123456Z"), string(raw))
	require.Equal(t, "stdout one\nstderr oops\nstderr \nstdout two\x1b[31m\r\xff\nstdout three\n", b.text())
}

func TestWhatComesAgainIsLeftOut(t *testing.T) {
	b := newBench(t, 0)
	a := b.App(id)
	b.wrote(a, 0, "stdout", "one\ntwo\n")
	b.wrote(a, 0, "stdout", "one\n")
	b.wrote(a, 4, "stdout", "two\nthree\n")
	require.Equal(t, "stdout one\nstdout two\nstdout three\n", b.text())
	require.NoError(t, a.Close())
	b.wrote(a, 14, "stdout", "after the end\n")
	require.NotContains(t, b.text(), "after")
}

func TestALogThatWasSettledGoesOn(t *testing.T) {
	b := newBench(t, 0)
	a := b.App(id)
	require.NoError(t, a.Settle(), "there is nothing yet")
	next := b.wrote(a, 0, "stdout", "one\ntw")
	require.NoError(t, a.Settle())
	require.Nil(t, a.log)
	require.NoError(t, a.Settle())
	b.wrote(a, next, "stdout", "o\n")
	b.wrote(a, 0, "stdout", "one\ntwo\n")
	require.Equal(t, "stdout one\nstdout two\n", b.text())
	require.NoError(t, a.Settle())
	require.NoError(t, a.Close())
	b.wrote(a, 8, "stdout", "after the end\n")
	require.Equal(t, "stdout one\nstdout two\n", b.text())
}

func TestALaterDaemonGoesOnWhereTheLogEnds(t *testing.T) {
	b := newBench(t, 0)
	b.wrote(b.App(id), 0, "stdout", "one\n") // and was killed
	a := b.App(id)
	a.BeginAt(0)
	b.wrote(a, 0, "stdout", "one\ntwo\n")
	require.Equal(t, "stdout one\nstdout two\n", b.text())
}

func TestADaemonKilledBetweenLogAndPositionDoublesNothing(t *testing.T) {
	b := newBench(t, 0)
	a := b.App(id)
	b.wrote(a, 0, "stdout", "one\n")
	position, err := os.ReadFile(filepath.Join(b.dir, id, stateName))
	require.NoError(t, err)
	b.wrote(a, 4, "stdout", "two\n")
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, id, stateName), position, 0o600))
	a = b.App(id)
	b.wrote(a, 0, "stdout", "one\n")
	b.wrote(a, 4, "stdout", "two\n")
	require.Equal(t, "stdout one\nstdout two\n", b.text())
}

func TestADamagedPositionIsNoReasonToLoseTheLog(t *testing.T) {
	for _, damage := range []string{"", "x", "-1 -1\n", strings.Repeat("9", 60)} {
		b := newBench(t, 0)
		b.wrote(b.App(id), 0, "stdout", "one\n")
		require.NoError(t, os.WriteFile(filepath.Join(b.dir, id, stateName), []byte(damage), 0o600))
		b.wrote(b.App(id), 4, "stdout", "two\n")
		require.Contains(t, b.text(), "stdout one\n", damage)
		require.Contains(t, b.text(), "stdout two\n", damage)
	}
}

func TestTheLogIsBoundedAndKeepsTheNewest(t *testing.T) {
	b := newBench(t, MinAppBytes)
	a := b.App(id)
	var next int64
	for i := range 20_000 {
		next = b.wrote(a, next, "stdout", fmt.Sprintf("line %d\n", i))
	}
	var size int64
	for _, path := range []string{b.Path(id, AppName), b.Path(id, AppName) + older} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		size += info.Size()
	}
	require.LessOrEqual(t, size, int64(MinAppBytes))
	require.Greater(t, size, int64(MinAppBytes/2))
	lines := strings.Split(strings.TrimSpace(b.text()), "\n")
	for i, line := range lines {
		require.Equal(t, fmt.Sprintf("stdout line %d", 20_000-len(lines)+i), line)
	}
	// The largest blow-up: a line for every byte.
	require.NoError(t, a.Append(next, "stdout", noon, bytes.Repeat([]byte("\n"), maxPiece)))
	info, err := os.Stat(b.Path(id, AppName))
	require.NoError(t, err)
	require.LessOrEqual(t, info.Size(), int64(MinAppBytes/2))
}

func TestLongLinesAreCutAndLoseNothing(t *testing.T) {
	for _, size := range []int{maxText - 1, maxText, maxText + 1, 2 * maxText, 5*maxText + 7} {
		b := newBench(t, 0)
		a := b.App(id)
		line := strings.Repeat("x", size)
		var next int64
		for rest := line + "\nnext\n"; len(rest) > 0; {
			n := min(len(rest), 10_000)
			next = b.wrote(a, next, "stdout", rest[:n])
			rest = rest[n:]
		}
		lines := strings.Split(strings.TrimSuffix(b.text(), "\n"), "\n")
		require.Equal(t, "stdout next", lines[len(lines)-1])
		joined := ""
		for _, l := range lines[:len(lines)-1] {
			require.LessOrEqual(t, len(l), 2*maxText)
			require.NotEqual(t, "stdout ", l, size)
			joined += strings.TrimPrefix(l, "stdout ")
		}
		require.Equal(t, line, joined)
	}
}

func TestWhatIsMissingIsNoted(t *testing.T) {
	b := newBench(t, 0)
	a := b.App(id)
	b.wrote(a, 0, "stdout", "begun")
	b.wrote(a, 100, "stdout", "later\n")
	require.Equal(t, "stdout begun\ndormouse [95 bytes of output were lost here: the app wrote more than its VM could keep]\nstdout later\n", b.text())
}

func TestAFullDiskIsReportedOnceAndNotedWhenThereIsRoomAgain(t *testing.T) {
	b := newBench(t, 0)
	a := b.App(id)
	next := b.wrote(a, 0, "stdout", "one\n")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	log := a.log.file
	a.log.file = full
	require.Error(t, a.Append(next, "stdout", noon, []byte("two\n")))
	require.NoError(t, a.Append(next+4, "stdout", noon, []byte("three\n")), "it is known")
	a.log.file = log
	b.wrote(a, next+10, "stdout", "four\n")
	require.Equal(t, "stdout one\ndormouse [10 bytes of output could not be written to the host's disk]\nstdout four\n", b.text())
}

func TestNonsenseIsRefused(t *testing.T) {
	b := newBench(t, 0)
	a := b.App(id)
	for _, err := range []error{
		a.Append(-1, "stdout", noon, nil),
		a.Append(1<<62, "stdout", noon, nil),
		a.Append(0, "dormouse", noon, []byte("x")),
		a.Append(0, "a b", noon, []byte("x")),
		a.Append(0, "", noon, []byte("x")),
		a.Append(0, "stdout", noon, make([]byte, maxPiece+1)),
	} {
		require.ErrorIs(t, err, ErrNonsense)
	}
	ids, err := b.IDs()
	require.NoError(t, err)
	require.Empty(t, ids)
}

// FuzzApp checks that whatever comes in whatever pieces, again or not, is read back as it was.
func FuzzApp(f *testing.F) {
	f.Add("one\ntwo\nthree", 3, 2)
	f.Add("\n\n\nx\n", 1, 0)
	f.Add(strings.Repeat("y", 3*maxText)+"\n", 1000, 5)
	f.Fuzz(func(t *testing.T, text string, piece, again int) {
		if piece <= 0 || piece > maxPiece || len(text) > 1<<16 || len(text)/piece > 1000 {
			return
		}
		b := newBench(t, 0)
		a := b.App(id)
		for at := 0; at < len(text); at += piece {
			end := min(at+piece, len(text))
			begin := max(0, at-max(0, again)%maxPiece)
			if end-begin > maxPiece {
				begin = at
			}
			b.wrote(a, int64(begin), "stdout", text[begin:end])
		}
		var got strings.Builder
		for line := range strings.Lines(b.text()) {
			line, ok := strings.CutPrefix(line, "stdout ")
			require.True(t, ok)
			got.WriteString(strings.TrimSuffix(line, "\n"))
		}
		require.Equal(t, strings.ReplaceAll(text, "\n", ""), got.String())
	})
}
