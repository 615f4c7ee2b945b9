package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestColoursLeaveColumnsInPlace(t *testing.T) {
	var plain, painted bytes.Buffer
	for out, colours := range map[*bytes.Buffer]bool{&plain: false, &painted: true} {
		s := &Screen{Out: out, Err: io.Discard, colours: colours}
		s.Table([]string{"NAME", "STATE", "LAST"}, [][]string{
			{s.Paint(Strong, "a"), s.State("RUNNING"), "1"}, {"longer-name", s.State("SUSPENDED"), ""}, {"日本", s.State("odd"), "3"},
		})
		s.Card([][2]string{{"name", "value"}, {"nothing", ""}})
	}
	require.Equal(t, "NAME          STATE       LAST\na             RUNNING     1\nlonger-name   SUSPENDED\n日本          odd         3\nname   value\n", plain.String())
	require.Contains(t, painted.String(), "\x1b[32mRUNNING\x1b[0m")
	without := painted.String()
	for _, style := range []Style{Strong, Faint, Good, Bad, Moving, Asleep} {
		without = strings.ReplaceAll(without, "\x1b["+string(style)+"m", "")
	}
	require.Equal(t, plain.String(), strings.ReplaceAll(without, "\x1b[0m", ""))
}

func TestTheLastColumnKeepsToTheTerminal(t *testing.T) {
	rows := [][]string{{"TERMINATED", "some words that are many and go on"}, {"fail", "a-word-that-is-longer-than-all-the-room-there-is"}}
	for width, want := range map[int]string{
		0: "STATE        WHY\nTERMINATED   some words that are many and go on\nfail         a-word-that-is-longer-than-all-the-room-there-is\n",
		37: "STATE        WHY\nTERMINATED   some words that are many\n             and go on\n" +
			"fail         a-word-that-is-longer-than-all-the-room-there-is\n",
		20: "STATE\nTERMINATED\n    some words that\n    are many and go\n    on\nfail\n    a-word-that-is-longer-than-all-the-room-there-is\n",
	} {
		var out bytes.Buffer
		(&Screen{Out: &out, width: width}).Table([]string{"STATE", "WHY"}, rows)
		require.Equal(t, want, out.String(), width)
	}
}

func TestNothingIsColouredWhereNobodyLooks(t *testing.T) {
	var out bytes.Buffer
	s := New(&out, &out)
	require.False(t, s.Interactive())
	require.Equal(t, "text", s.Paint(Bad, "text"))
	w, flush := s.Stranger()
	fmt.Fprint(w, "raw \x1b[0m")
	require.NoError(t, flush())
	require.Equal(t, "raw \x1b[0m", out.String(), "programs get what was written")
}

func TestJSONCannotControlTheTerminal(t *testing.T) {
	value := map[string]string{"a": "\u009b31m \x7f \u202e \u2028 \x1b ü日 \U0001f400 <&>"}
	for _, terminal := range []bool{false, true} {
		var out bytes.Buffer
		s := &Screen{Out: &out, outTerminal: terminal}
		require.NoError(t, s.JSON(value))
		var back map[string]string
		require.NoError(t, json.Unmarshal(out.Bytes(), &back))
		require.Equal(t, value, back)
		if terminal {
			require.Equal(t, "{\n  \"a\": \"\\u009b31m \\u007f \\u202e \\u2028 \\u001b ü日 \U0001f400 <&>\"\n}\n", out.String())
		}
	}
}

func TestProgressIsPlainLinesWhereNobodyLooks(t *testing.T) {
	var out bytes.Buffer
	p := New(io.Discard, &out).Progress()
	p.Say("Packing %s", "x")
	body := p.Counting(strings.NewReader("12345"), 5)
	_, err := io.ReadAll(body)
	require.NoError(t, err)
	fmt.Fprint(p, "half a ")
	fmt.Fprint(p, "line\nand ano")
	p.Close()
	p.Close()
	require.Equal(t, "Packing x\nhalf a line\nand ano\n", out.String())
}

func TestWords(t *testing.T) {
	for n, words := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1500: "1.5 KiB", 135 << 20: "135 MiB", 999 << 20: "999 MiB", 2 << 30: "2 GiB", 3 << 40: "3 TiB"} {
		require.Equal(t, words, Bytes(n))
	}
	for d, words := range map[time.Duration]string{
		0: "0 ms", 100 * time.Microsecond: "0.1 ms", 214 * time.Millisecond: "214 ms", 23400 * time.Millisecond: "23.4 s", 200 * time.Second: "3m20s",
	} {
		require.Equal(t, words, Seconds(d))
	}
	for d, words := range map[time.Duration]string{45 * time.Second: "45s", 5 * time.Minute: "5m", 90 * time.Second: "1m30s", 8 * time.Hour: "8h", 130 * time.Minute: "2h10m", 72 * time.Hour: "3d"} {
		require.Equal(t, words, Span(d))
	}
	now := time.Now()
	require.Equal(t, []string{"just now", "just now", "2m ago", ""}, []string{
		Ago(now, now), Ago(now.Add(time.Hour), now), Ago(now.Add(-2*time.Minute), now), Ago(time.Time{}, now)})
}

func TestATimelineIsAsWideAsItsOperation(t *testing.T) {
	var out bytes.Buffer
	s := New(&out, io.Discard)
	s.Timeline([]Phase{{"a", time.Second}, {"evil\x1b", time.Microsecond}, {"c", 3 * time.Second}, {"end", 0}})
	s.Timeline(nil)
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	require.Len(t, lines, 4)
	require.Equal(t, 10, strings.Count(lines[0], "█"))
	require.Equal(t, 30, strings.Count(lines[2], "█"))
	require.Equal(t, 1, strings.Count(lines[3], "▏"))
	require.NotContains(t, out.String(), "\x1b")
}
