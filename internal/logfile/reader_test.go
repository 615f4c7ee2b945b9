package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAReaderGoesOnWithWhatWasWrittenSince(t *testing.T) {
	b := newBench(t, 0)
	r, err := Open(b.Path(id, ConsoleName), nil)
	require.NoError(t, err)
	defer r.Close()
	reads := func(want string) {
		t.Helper()
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	reads("")
	require.NoError(t, b.Append(id, ConsoleName, []byte("one\n")))
	reads("one\n")
	require.NoError(t, b.Append(id, ConsoleName, nil))
	reads("")
	require.NoError(t, b.Append(id, ConsoleName, []byte("two\n")))
	reads("two\n")
}

func TestAReaderFollowsALogThatMovesOnAndIsToldWhatItMissed(t *testing.T) {
	const skipped = "[skipped]\n"
	line := func(i int) []byte { return fmt.Appendf(nil, "%0999d\n", i) }
	b := newBench(t, 0)
	require.NoError(t, b.Append(id, VMMName, line(0)))
	r, err := Open(b.Path(id, VMMName), func() []byte { return []byte(skipped) })
	require.NoError(t, err)
	defer r.Close()

	written := 1
	writes := func(n int) {
		for range n {
			require.NoError(t, b.Append(id, VMMName, line(written)))
			written++
		}
	}
	var got bytes.Buffer
	for range 10 { // half of a segment at a time
		writes(sideBytes / 4 / 1000)
		_, err := io.Copy(&got, r)
		require.NoError(t, err)
	}
	for i, text := range strings.SplitAfter(strings.TrimSuffix(got.String(), "\n"), "\n")[:written] {
		require.Equal(t, string(line(i)), strings.TrimSuffix(text, "\n")+"\n")
	}

	got.Reset()
	writes(2 * sideBytes / 1000)
	_, err = io.Copy(&got, r)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(got.String(), skipped))
	require.True(t, strings.HasSuffix(got.String(), string(line(written-1))))
}

func TestAReaderIsToldOfSegmentsThatCameAndWentUnseen(t *testing.T) {
	const skipped = "[skipped]\n"
	b := newBench(t, 0)
	segment := func() { require.NoError(t, b.Append(id, VMMName, bytes.Repeat([]byte("x"), sideBytes/2))) }
	open := func() *Reader {
		r, err := Open(b.Path(id, VMMName), func() []byte { return []byte(skipped) })
		require.NoError(t, err)
		t.Cleanup(func() { r.Close() })
		return r
	}
	notes := func(r *Reader) int {
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		return strings.Count(string(text), skipped)
	}
	early := open() // before the log begins
	segment()
	r := open()
	require.Zero(t, notes(r))
	segment()
	segment()
	require.Equal(t, 1, notes(early))
	require.Equal(t, 1, notes(r))

	segment()
	require.Zero(t, notes(r))
	r.leave(&r.present) // it has seen that there is another one, and is slow to open it
	segment()
	require.Zero(t, notes(r))
	r.leave(&r.present)
	segment()
	segment()
	require.Equal(t, 1, notes(r))
	require.Zero(t, notes(open()))
}

func TestASnapshotIsWhatThereWasWhenTheReaderWasOpened(t *testing.T) {
	b := newBench(t, 0)
	require.NoError(t, b.Append(id, ConsoleName, bytes.Repeat([]byte("old\n"), sideBytes/8)))
	require.NoError(t, b.Append(id, ConsoleName, []byte("new\n")))
	r, err := Open(b.Path(id, ConsoleName), nil)
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, b.Append(id, ConsoleName, []byte("newer\n")))
	for range 2 {
		lines, err := CountLines(r.Snapshot())
		require.NoError(t, err)
		require.Equal(t, sideBytes/8+1, lines)
	}
}

func TestALogOfTheVMMIsBounded(t *testing.T) {
	b := newBench(t, 0)
	require.NoError(t, b.Append(id, VMMName, make([]byte, 10*sideBytes)))
	info, err := os.Stat(b.Path(id, VMMName))
	require.NoError(t, err)
	require.LessOrEqual(t, info.Size(), int64(sideBytes/2))
}

func TestLogsOfAMicroVMAreRemovedTogether(t *testing.T) {
	b := newBench(t, 0)
	ids, err := b.IDs()
	require.NoError(t, err)
	require.Empty(t, ids, "there is no folder yet")
	b.wrote(b.App(id), 0, "stdout", "one\n")
	require.NoError(t, b.Append("microvm-2", ConsoleName, []byte("x")))
	ids, err = b.IDs()
	require.NoError(t, err)
	require.Equal(t, []string{id, "microvm-2"}, ids)
	require.NoError(t, b.Remove(id))
	require.NoDirExists(t, filepath.Join(b.dir, id))
	require.NoError(t, b.Remove(id))
}

// FuzzText checks that no file makes the decoder fail, stop or grow without bound.
func FuzzText(f *testing.F) {
	f.Add([]byte("2026-11-25T12:00:00.000000Z stdout F one\n2026-11-25T12:00:00.000000Z stderr P two\n"))
	f.Add([]byte("T dormouse F x\nT stdout P\nT agent P y\nno line"))
	f.Add(bytes.Repeat([]byte("T stdout P zzzzzzzz\n"), 3000))
	f.Fuzz(func(t *testing.T, raw []byte) {
		text := NewText(iotestChunks{bytes.NewReader(raw)})
		all, err := io.ReadAll(text)
		require.NoError(t, err)
		all = text.Rest(all)
		for line := range bytes.Lines(all) {
			require.LessOrEqual(t, len(line), 2*(maxHead+maxText)+len("\n"))
		}
		if _, err := text.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal("it does not end")
		}
	})
}

// iotestChunks reads a few bytes at a time.
type iotestChunks struct{ r io.Reader }

func (c iotestChunks) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), 700)]) }
