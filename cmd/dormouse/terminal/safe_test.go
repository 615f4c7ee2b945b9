package terminal

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

func TestTextOfStrangersCannotControlTheTerminal(t *testing.T) {
	for raw, shown := range map[string]string{
		"plain text, ümläute 日本":  "plain text, ümläute 日本",
		"a\tb\nc":                 "a\tb\nc",
		"\x1b[2Jgone":             `\x1b[2Jgone`,
		"\x1b]0;title\x07":        `\x1b]0;title\x07`,
		"c1 \u009b31m":            `c1 \x9b31m`,
		"bell\a back\b":           `bell\x07 back\x08`,
		"10%\r20%\r\n30%":         "10%\n20%\n30%",
		"left\u202eright\u2066x":  `left\u202eright\u2066x`,
		"bad \xff\xfe utf-8":      `bad \xff\xfe utf-8`,
		"cut \xe6\x97":            `cut \xe6\x97`,
		"\x7f\x00":                `\x7f\x00`,
		"one\u2028two\u2029three": `one\u2028two\u2029three`,
	} {
		require.Equal(t, shown, Safe(raw))
	}
	require.Equal(t, `two\nlines`, SafeLine("two\nlines"))
}

// FuzzSafe checks that nothing harmful comes through, however the text is cut into pieces.
func FuzzSafe(f *testing.F) {
	f.Add([]byte("\x1b[31mred\r\nüü\xff"), 3)
	f.Add([]byte("\u009b\u202e日本"), 1)
	f.Fuzz(func(t *testing.T, text []byte, piece int) {
		var out bytes.Buffer
		w := NewSafeWriter(&out)
		for rest := text; len(rest) > 0; {
			n := min(max(piece, 1), len(rest))
			_, err := w.Write(rest[:n])
			require.NoError(t, err)
			rest = rest[n:]
		}
		require.NoError(t, w.Flush())
		require.Equal(t, Safe(string(text)), out.String())
		for _, r := range strings.NewReplacer("\n", "", "\t", "").Replace(out.String()) {
			require.False(t, unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r), "%q", out.String())
		}
	})
}
