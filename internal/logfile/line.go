package logfile

import (
	"bytes"
	"time"
)

// The app's log has the form container runtimes use (CRI): a line is "TIME STREAM TAG TEXT", where
// the tag P says that the next line of the stream goes on with the text, and F that it is complete.
// So everything is on disk at once, whatever of a line it is.
const (
	timeForm = "2006-01-02T15:04:05.000000Z"
	partTag  = 'P'
	fullTag  = 'F'
	maxText  = 16 << 10 // bytes of text in one line
	maxHead  = 64       // bytes before the text
)

// Note is the stream of what the daemon has to say in an app's log.
const Note = "dormouse"

// appendEntry adds one line of the file.
func appendEntry(out []byte, at time.Time, stream string, tag byte, text []byte) []byte {
	out = append(at.UTC().AppendFormat(out, timeForm), ' ')
	out = append(append(out, stream...), ' ', tag, ' ')
	return append(append(out, text...), '\n')
}

// Skipped is a line of an app's log that stands for what its reader was too slow for.
func Skipped(now time.Time) []byte {
	return appendEntry(nil, now, Note, fullTag, []byte("[output was skipped here: it came faster than it was read]"))
}

// cutText takes the text of one line off what was written: up to the end of a line, or as long as one may be.
func cutText(data []byte) (text []byte, tag byte, rest []byte) {
	if end := bytes.IndexByte(data[:min(len(data), maxText+1)], '\n'); end >= 0 {
		return data[:end], fullTag, data[end+1:]
	}
	n := min(len(data), maxText)
	return data[:n], partTag, data[n:]
}

// entry is one line of the file.
type entry struct {
	at, stream []byte
	tag        byte
	text       []byte
}

// parseEntry reads one line of the file, without its end.
func parseEntry(line []byte) (e entry, ok bool) {
	var rest []byte
	if e.at, rest, ok = bytes.Cut(line, []byte(" ")); !ok || len(e.at) > maxHead {
		return e, false
	}
	if e.stream, rest, ok = bytes.Cut(rest, []byte(" ")); !ok || !known(string(e.stream)) {
		return e, false
	}
	if len(rest) < 2 || rest[1] != ' ' || rest[0] != partTag && rest[0] != fullTag {
		return e, false
	}
	e.tag, e.text = rest[0], rest[2:]
	return e, true
}

// known tells whether a guest may write to a stream of that name, or the daemon does.
func known(stream string) bool {
	return stream == "stdout" || stream == "stderr" || stream == "agent" || stream == Note
}
