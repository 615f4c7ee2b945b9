package logfile

import (
	"bytes"
	"errors"
	"io"
	"slices"
)

// Text reads an app's log as its readers want it: "TIME STREAM TEXT" with whole lines of text, in the
// order of their ends. Like a file that grows, it may be read on after io.EOF.
type Text struct {
	from io.Reader
	in   []byte // raw, not decoded yet
	out  []byte
	held map[string][]byte // by stream: a line with its head whose end has not come
	ends map[string]bool   // by stream: what is held was cut for its length
}

// NewText decodes what a file of App holds.
func NewText(from io.Reader) *Text {
	return &Text{from: from, held: map[string][]byte{}, ends: map[string]bool{}}
}

// Read implements io.Reader.
func (t *Text) Read(p []byte) (int, error) {
	for len(t.out) == 0 {
		t.in = slices.Grow(t.in, batch)
		n, err := t.from.Read(t.in[len(t.in) : len(t.in)+batch])
		t.in = t.in[:len(t.in)+n]
		t.decode()
		if len(t.out) == 0 && err != nil {
			return 0, err
		}
	}
	n := copy(p, t.out)
	t.out = t.out[n:]
	return n, nil
}

// decode takes the complete lines of the input.
func (t *Text) decode() {
	t.out = t.out[:0]
	in := t.in
	for {
		line, rest, found := bytes.Cut(in, []byte("\n"))
		if !found {
			if len(in) <= maxHead+maxText {
				break
			}
			line, rest = in[:maxHead+maxText], in[maxHead+maxText:] // nothing of ours is that long
		}
		t.line(line)
		in = rest
	}
	t.in = t.in[:copy(t.in, in)]
}

func (t *Text) line(raw []byte) {
	e, ok := parseEntry(raw)
	if !ok {
		t.out = append(append(t.out, raw...), '\n')
		return
	}
	stream := string(e.stream)
	if stream == Note {
		t.out = t.Rest(t.out) // what is missing belongs behind it
	}
	line := t.held[stream]
	over := t.ends[stream] && len(e.text) == 0 // the end of a line that is exactly as long as one may be
	if len(line) == 0 && !over {
		line = append(append(append(append(line, e.at...), ' '), e.stream...), ' ')
	}
	line = append(line, e.text...)
	t.held[stream], t.ends[stream] = line, false
	if e.tag == partTag && len(line) < maxText {
		return
	}
	t.held[stream], t.ends[stream] = line[:0], e.tag == partTag
	if len(line) > 0 {
		t.out = append(append(t.out, line...), '\n')
	}
}

// Rest adds the lines whose ends have not come.
func (t *Text) Rest(out []byte) []byte {
	for _, stream := range []string{"stdout", "stderr", "agent"} {
		if line := t.held[stream]; len(line) > 0 {
			out = append(append(out, line...), '\n')
			t.held[stream] = line[:0]
		}
	}
	return out
}

// unfinished counts the lines whose ends have not come.
func (t *Text) unfinished() (lines int) {
	for _, line := range t.held {
		if len(line) > 0 {
			lines++
		}
	}
	return lines
}

// CountLines counts lines until from ends, also one whose end has not come.
func CountLines(from io.Reader) (lines int, err error) {
	buffer := make([]byte, batch)
	last := byte('\n')
	for {
		n, err := from.Read(buffer)
		lines += bytes.Count(buffer[:n], []byte("\n"))
		if n > 0 {
			last = buffer[n-1]
		}
		if errors.Is(err, io.EOF) {
			if last != '\n' {
				lines++
			}
			if text, ok := from.(*Text); ok {
				lines += text.unfinished()
			}
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
	}
}
