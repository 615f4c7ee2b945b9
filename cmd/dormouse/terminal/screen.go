// Package terminal writes what a verb has to say, for a person at a terminal and for programs.
package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"
)

// Screen is where a verb writes: results to Out, notes and progress to Err.
type Screen struct {
	Out io.Writer
	Err io.Writer

	outTerminal, errTerminal bool
	colours                  bool
	width                    int // of the terminal, in columns; 0 where Out is none
}

// New looks at what out and err are. Colours need a terminal and no NO_COLOR (no-color.org).
func New(out, err io.Writer) *Screen {
	s := &Screen{Out: out, Err: err, outTerminal: isTerminal(out), errTerminal: isTerminal(err)}
	s.width = widthOf(out)
	s.colours = s.outTerminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func widthOf(stream any) int {
	file, ok := stream.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// Interactive tells whether a person looks at the results, rather than a program.
func (s *Screen) Interactive() bool { return s.outTerminal }

// Printf writes a result.
func (s *Screen) Printf(format string, args ...any) { fmt.Fprintf(s.Out, format, args...) }

// Notef writes a line beside the results.
func (s *Screen) Notef(format string, args ...any) { fmt.Fprintf(s.Err, format+"\n", args...) }

// JSON writes a result for programs: one document, indented. On a terminal what could control that is
// escaped, which means the same to programs.
func (s *Screen) JSON(value any) error {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	if err := out.Encode(value); err != nil {
		return err
	}
	shown := text.Bytes()
	if s.outTerminal {
		shown = escaped(text.String())
	}
	_, err := s.Out.Write(shown)
	return err
}

// escaped is a JSON document without characters that could do harm. The encoder has left neither invalid
// UTF-8 nor line breaks in strings.
func escaped(document string) (out []byte) {
	for _, r := range document {
		if r != '\n' && harmful(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// Stranger is Out for text that guests and strangers wrote: as it is for programs, safe for a terminal.
// The caller calls flush when all is written.
func (s *Screen) Stranger() (w io.Writer, flush func() error) {
	if !s.outTerminal {
		return s.Out, func() error { return nil }
	}
	safe := NewSafeWriter(s.Out)
	return safe, safe.Flush
}

// Style is how a piece of text stands out.
type Style string

// The styles, as parameters of the escape sequence SGR.
const (
	Plain  Style = ""
	Strong Style = "1"
	Faint  Style = "2"
	Good   Style = "32" // green
	Bad    Style = "31" // red
	Moving Style = "33" // yellow: not settled yet
	Asleep Style = "36" // cyan
)

// Paint gives text a style where colours are shown.
func (s *Screen) Paint(style Style, text string) string {
	if !s.colours || style == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}

// State paints the state of a microVM, an image, a version or a build.
func (s *Screen) State(state string) string { return s.Paint(styles[state], state) }

var styles = map[string]Style{
	"RUNNING": Good, "CREATED": Good, "UPDATED": Good, "SUCCESSFUL": Good, "ACTIVE": Good, "ok": Good,
	"SUSPENDED": Asleep,
	"PENDING":   Moving, "SUSPENDING": Moving, "TERMINATING": Moving, "CREATING": Moving, "UPDATING": Moving,
	"DELETING": Moving, "IN_PROGRESS": Moving, "warn": Moving,
	"CREATE_FAILED": Bad, "UPDATE_FAILED": Bad, "DELETE_FAILED": Bad, "FAILED": Bad, "fail": Bad,
	"TERMINATED": Faint, "DELETED": Faint, "INACTIVE": Faint,
}
