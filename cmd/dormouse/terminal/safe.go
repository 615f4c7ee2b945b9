package terminal

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Safe makes text that a guest or a stranger wrote harmless to a terminal: what would move the
// cursor, change colours or reorder letters is shown as an escape, invalid UTF-8 as \xNN. Tabs and
// line breaks stay; a carriage return is a line break.
func Safe(text string) string {
	var b strings.Builder
	w := NewSafeWriter(&b)
	_, _ = io.WriteString(w, text) // a Builder takes everything
	_ = w.Flush()
	return b.String()
}

// SafeLine is Safe for text that must stay on one line.
func SafeLine(text string) string {
	return strings.NewReplacer("\n", `\n`, "\t", " ").Replace(Safe(text))
}

// SafeWriter applies Safe to a stream. A character that arrives in pieces is kept until it is whole.
type SafeWriter struct {
	to       io.Writer
	held     []byte // the beginning of a character
	returned bool   // the last character was a carriage return
}

// NewSafeWriter writes to to what is safe.
func NewSafeWriter(to io.Writer) *SafeWriter { return &SafeWriter{to: to} }

func (w *SafeWriter) Write(p []byte) (int, error) {
	text := slices.Concat(w.held, p)
	w.held = nil
	var out []byte
	for len(text) > 0 {
		if !utf8.FullRune(text) {
			w.held = append([]byte(nil), text...)
			break
		}
		r, size := utf8.DecodeRune(text)
		out = w.add(out, r, text[:size])
		text = text[size:]
	}
	if _, err := w.to.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes what was held of a character that never became whole.
func (w *SafeWriter) Flush() error {
	var out []byte
	for _, b := range w.held {
		out = fmt.Appendf(out, `\x%02x`, b)
	}
	w.held = nil
	_, err := w.to.Write(out)
	return err
}

func (w *SafeWriter) add(out []byte, r rune, raw []byte) []byte {
	afterReturn := w.returned
	w.returned = r == '\r'
	switch {
	case r == '\n' && afterReturn: // the line has ended already
		return out
	case r == '\r':
		return append(out, '\n')
	case r == utf8.RuneError && len(raw) == 1:
		return fmt.Appendf(out, `\x%02x`, raw[0])
	case r == '\n' || r == '\t':
		return append(out, raw...)
	case unicode.IsControl(r):
		return fmt.Appendf(out, `\x%02x`, r)
	case harmful(r):
		return fmt.Appendf(out, `\u%04x`, r)
	}
	return append(out, raw...)
}

// harmful tells whether a terminal does something else with a character than show it in its place. All
// that are have at most four digits.
func harmful(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}
