package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// since reads lines as "stream text" behind a place.
func (b *bench) since(from int64, all bool) ([]string, Part) {
	b.t.Helper()
	p, err := b.Since(id, from, all)
	require.NoError(b.t, err)
	var lines []string
	for _, l := range p.Lines {
		lines = append(lines, l.Stream+" "+string(l.Text))
	}
	return lines, p
}

func TestSinceGoesOnWhereItEnded(t *testing.T) {
	b := newBench(t, 0)
	lines, p := b.since(0, false)
	require.Empty(t, lines)
	require.Zero(t, p)
	a := b.App(id)
	next := b.wrote(a, 0, "stdout", "one\ntwo\n")
	lines, p = b.since(0, false)
	require.Equal(t, []string{"stdout one", "stdout two"}, lines)
	require.Equal(t, noon, p.Lines[0].At)
	require.False(t, p.Held || p.More)
	b.wrote(a, next, "stderr", "three\n")
	lines, p = b.since(p.Next, false)
	require.Equal(t, []string{"stderr three"}, lines)
	lines, p = b.since(p.Next, false)
	require.Empty(t, lines)
	require.False(t, p.Held || p.More)
}

func TestSinceWaitsForTheEndsOfLines(t *testing.T) {
	b := newBench(t, 0)
	a := b.App(id)
	next := b.wrote(a, 0, "stdout", "one\ntw")
	next = b.wrote(a, next, "stderr", "oops\n")
	lines, p := b.since(0, false)
	require.Equal(t, []string{"stdout one"}, lines)
	require.True(t, p.Held)
	all, whole := b.since(p.Next, true)
	require.Equal(t, []string{"stdout tw", "stderr oops"}, all)
	b.wrote(a, next, "stdout", "o\n")
	lines, p = b.since(p.Next, false)
	require.Equal(t, []string{"stdout two", "stderr oops"}, lines)
	require.False(t, p.Held)
	lines, _ = b.since(whole.Next, false)
	require.Equal(t, []string{"stdout o"}, lines, "what was taken as far as it went is not repeated")
}

func TestSinceReadsEachLineOnceOverManySegmentsAndDaemons(t *testing.T) {
	b := newBench(t, MinAppBytes)
	a := b.App(id)
	var next, place int64
	read := 0
	for i := range 20_000 {
		next = b.wrote(a, next, "stdout", fmt.Sprintf("line %d\n", i))
		if i%700 != 0 {
			continue
		}
		if i%1400 == 0 { // another daemon
			require.NoError(t, a.Settle())
			a = b.App(id)
		}
		for {
			lines, p := b.since(place, false)
			require.Zero(t, p.Lost)
			for _, line := range lines {
				require.Equal(t, fmt.Sprintf("stdout line %d", read), line)
				read++
			}
			place = p.Next
			if !p.More {
				break
			}
		}
		require.Equal(t, i+1, read)
	}
}

func TestSinceReadsLinesThatGoOnInTheNextSegmentWhole(t *testing.T) {
	b := newBench(t, MinAppBytes)
	a := b.App(id)
	var next, place int64
	read := 0
	for i := range 20_000 {
		next = b.wrote(a, next, "stdout", "line ")
		next = b.wrote(a, next, "stdout", fmt.Sprintf("%d\n", i))
		if i%500 != 0 {
			continue
		}
		for more := true; more; {
			lines, p := b.since(place, false)
			for _, line := range lines {
				require.Equal(t, fmt.Sprintf("stdout line %d", read), line)
				read++
			}
			place, more = p.Next, p.More
		}
		require.Equal(t, i+1, read)
	}
}

func TestSinceTellsWhatIsGone(t *testing.T) {
	b := newBench(t, MinAppBytes)
	a := b.App(id)
	var next int64
	for i := range 10_000 {
		next = b.wrote(a, next, "stdout", fmt.Sprintf("line %d\n", i))
	}
	_, p := b.since(0, false)
	require.Positive(t, p.Lost)
	_, again := b.since(p.Next, false)
	require.Zero(t, again.Lost)
}

func TestSinceSurvivesADaemonKilledBetweenTwoSegments(t *testing.T) {
	b := newBench(t, 0)
	b.wrote(b.App(id), 0, "stdout", "one\ntwo\n")
	_, p := b.since(0, false)
	require.NoError(t, os.Rename(b.Path(id, AppName), b.Path(id, AppName)+older))
	lines, _ := b.since(0, false)
	require.Equal(t, []string{"stdout one", "stdout two"}, lines)
	a := b.App(id)
	b.wrote(a, 0, "stdout", "one\ntwo\nthree\n")
	lines, p = b.since(p.Next, false)
	require.Equal(t, []string{"stdout three"}, lines)
	require.Zero(t, p.Lost)
}

func TestSinceReadsALogOfAnEarlierVersion(t *testing.T) {
	b := newBench(t, 0)
	a := b.App(id)
	b.wrote(a, 0, "stdout", "one\n")
	require.NoError(t, a.Settle())
	path := filepath.Join(b.dir, id, stateName)
	state, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(strings.Fields(string(state))[:2], " ")+"\n"), 0o600))
	lines, _ := b.since(0, false)
	require.Equal(t, []string{"stdout one"}, lines)
	b.wrote(b.App(id), 4, "stdout", "two\n")
	lines, _ = b.since(0, false)
	require.Equal(t, []string{"stdout one", "stdout two"}, lines)
}

func TestADiscardedLogKeepsNothing(t *testing.T) {
	b := newBench(t, 0)
	a := b.App(id)
	a.Discard()
	b.wrote(a, 0, "stdout", "secret\n")
	require.NoError(t, a.Settle())
	require.NoError(t, a.Close())
	require.NoDirExists(t, filepath.Join(b.dir, id))
}

func TestSinceReadsOnWithoutWaitingForEndsThatAreThere(t *testing.T) {
	b := newBench(t, 64<<20)
	a := b.App(id)
	line := strings.Repeat("x", 100)
	var next int64
	for range 300 { // pieces end in the middle of lines
		next = b.wrote(a, next, "stdout", strings.Repeat(line+"\n", 99)+line)
		next = b.wrote(a, next, "stdout", "\n")
	}
	next = b.wrote(a, next, "stderr", "begun ")
	for range 20_000 {
		next = b.wrote(a, next, "stdout", line+"\n")
	}
	var place int64
	read := 0
	for {
		p, err := b.Since(id, place, false)
		require.NoError(t, err)
		require.Greater(t, p.Next, place)
		for _, l := range p.Lines {
			if l.Stream == "stdout" {
				require.Equal(t, line, string(l.Text))
				read++
			}
		}
		if place = p.Next; !p.More {
			require.False(t, p.Held)
			break
		}
	}
	require.Equal(t, 50_000, read)
}

func TestSinceGetsPastWhatIsNoLogAtAll(t *testing.T) {
	b := newBench(t, 64<<20)
	a := b.App(id)
	next := b.wrote(a, 0, "stdout", "one\n")
	from := b.size()
	for range 3*maxPart/maxPiece + 1 {
		next = b.wrote(a, next, "stdout", strings.Repeat("x", maxPiece-1)+"\n")
	}
	to := b.size()
	b.wrote(a, next, "stdout", "two\n")
	damaged, err := os.OpenFile(b.Path(id, AppName), os.O_WRONLY, 0)
	require.NoError(t, err)
	defer damaged.Close()
	_, err = damaged.WriteAt(make([]byte, to-from-1), from)
	require.NoError(t, err)
	lines := b.everything()
	require.Equal(t, []string{"stdout one", "stdout two"}, []string{lines[0], lines[len(lines)-1]})
	_, err = damaged.WriteAt(make([]byte, b.size()-to), to)
	require.NoError(t, err)
	lines = b.everything()
	require.Equal(t, "stdout one", lines[0])
	require.True(t, strings.HasSuffix(lines[len(lines)-1], "\x00"))
}

func (b *bench) size() int64 { return sizeOf(b.Path(id, AppName)) }

// everything reads on until there is no more.
func (b *bench) everything() (all []string) {
	b.t.Helper()
	for place := int64(0); ; {
		lines, p := b.since(place, false)
		all = append(all, lines...)
		if !p.More {
			require.Equal(b.t, b.size(), p.Next)
			return all
		}
		require.Greater(b.t, p.Next, place)
		place = p.Next
	}
}

// FuzzSince checks that whatever is written in whatever pieces is read once, and in order, however often somebody looks.
func FuzzSince(f *testing.F) {
	f.Add("one\ntwo\nthree", 3, 2)
	f.Add("\n\n\nx\n", 1, 1)
	f.Add(strings.Repeat("y", 3*maxText)+"\n", 1000, 5)
	f.Fuzz(func(t *testing.T, text string, piece, look int) {
		if piece <= 0 || piece > maxPiece || len(text) > 1<<16 || len(text)/piece > 1000 || look <= 0 {
			return
		}
		b := newBench(t, 0)
		a := b.App(id)
		var got strings.Builder
		var place int64
		take := func(all bool) {
			p, err := b.Since(id, place, all)
			require.NoError(t, err)
			for _, l := range p.Lines {
				got.Write(l.Text)
			}
			place = p.Next
		}
		for at := 0; at < len(text); at += piece {
			b.wrote(a, int64(at), "stdout", text[at:min(at+piece, len(text))])
			if at/piece%look == 0 {
				take(at%3 == 0)
			}
		}
		take(true)
		require.Equal(t, strings.ReplaceAll(text, "\n", ""), got.String())
	})
}
