package logfile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// Line is one line of what an app wrote, without its end.
type Line struct {
	At     time.Time // the guest's; the zero time where the log is damaged
	Stream string
	Text   []byte
}

// Part is what Since reads of an app's log. Places in the log are bytes since its beginning, also of what is gone.
type Part struct {
	Lines []Line
	Next  int64 // where to go on
	More  bool  // there was more than was asked for
	Held  bool  // a line that has not ended yet lies behind Next
	Lost  int64 // bytes between from and the oldest that is left
}

// maxPart bounds what Since reads at once, in bytes.
const maxPart = 1 << 20

// Since reads the lines of an app's log behind a place, up to one that has not ended yet. With all it takes that too,
// as far as it goes. It reads what is recorded as written, so that a daemon that is killed repeats none of it. Next is
// behind the place whenever there is More.
func (f *Folder) Since(id string, from int64, all bool) (Part, error) {
	raw, begin, end, err := f.raw(f.Path(id, AppName), from)
	if err != nil {
		return Part{}, err
	}
	p := Part{Next: begin, Lost: max(0, begin-from)}
	rest := raw
	open := map[string]unended{} // by stream
	var first int64 = -1         // the place of the oldest of them
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found && (len(rest) == 0 || p.Next > begin) {
			break
		} // else it is no line of ours, as a power cut leaves them: it must not be in the way for ever
		place := p.Next
		p.Next += int64(len(rest) - len(after))
		rest = after
		p.add(line, open)
		switch {
		case len(open) == 0:
			first = -1
		case first < 0:
			first = place
		}
	}
	p.More = begin < p.Next && p.Next < end
	switch {
	case first < 0 || all:
	case !p.More:
		p.cut(raw, begin, first)
		p.Held = true
	case first > begin: // its end is in what comes next
		p.cut(raw, begin, first)
		p.More = true
	}
	return p, nil
}

// unended is a line in Part.Lines that has not ended yet.
type unended struct {
	line int
	own  bool // its text is not part of what was read any more
}

// add takes one line of the file.
func (p *Part) add(raw []byte, open map[string]unended) {
	e, ok := parseEntry(raw)
	if !ok {
		p.Lines = append(p.Lines, Line{Stream: Note, Text: raw})
		return
	}
	stream := string(e.stream)
	u, goes := open[stream]
	if !goes {
		at, _ := time.Parse(timeForm, string(e.at)) // the zero time says that it is none
		p.Lines = append(p.Lines, Line{At: at, Stream: stream, Text: e.text})
		u.line = len(p.Lines) - 1
	} else if len(e.text) > 0 {
		l := &p.Lines[u.line]
		if !u.own {
			l.Text, u.own = slices.Concat(l.Text, e.text), true
		} else {
			l.Text = append(l.Text, e.text...)
		}
	}
	if e.tag == partTag && len(p.Lines[u.line].Text) < maxText {
		open[stream] = u
		return
	}
	delete(open, stream)
}

// cut takes only what lies before a place.
func (p *Part) cut(raw []byte, begin, place int64) {
	*p = Part{Next: begin, Lost: p.Lost}
	open := map[string]unended{}
	for line := range bytes.Lines(raw[:place-begin]) {
		p.add(bytes.TrimSuffix(line, []byte("\n")), open)
		p.Next += int64(len(line))
	}
}

// raw reads up to maxPart bytes of the log behind a place, or behind the oldest that is left, and tells where
// that begins and where the log ends.
func (f *Folder) raw(path string, from int64) (text []byte, begin, end int64, err error) {
	f.turning.RLock()
	defer f.turning.RUnlock()
	now, known, err := readState(path)
	if err != nil || !known {
		return nil, from, from, err
	}
	end = now.base + now.size
	oldest := max(0, now.base-sizeOf(path+older))
	begin = min(max(from, oldest), end)
	if begin < now.base {
		text, err = appendFrom(nil, path+older, begin-oldest, now.base-begin)
	}
	if at := begin + int64(len(text)); err == nil && at >= now.base { // a line may go on there
		text, err = appendFrom(text, path, at-now.base, end-at)
	}
	return text, begin, end, err
}

// appendFrom reads up to so many bytes of a file from an offset, until there are maxPart. A file that is missing has none.
func appendFrom(text []byte, path string, offset, left int64) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return text, nil
	}
	if err != nil {
		return text, err
	}
	defer file.Close()
	had := len(text)
	text = slices.Concat(text, make([]byte, min(left, maxPart-int64(had))))
	n, err := file.ReadAt(text[had:], offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return text[:had+n], err
}
