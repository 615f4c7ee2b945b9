package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dormouse-dev/dormouse/internal/loggroup"
)

const (
	maxLog    = 16 << 20 // bytes of a build's log
	tailLines = 50       // kept on a failed build
	tailBytes = 16 << 10 // of those lines, which may be long
)

// buildLog is the log file of a build, which can be read while it grows. It is bounded: a build
// that writes without end gets its beginning and its end recorded.
type buildLog struct {
	path  string
	quiet bool // its image's logging is disabled: only our own notes are kept

	mu   sync.Mutex // guards all below
	file *os.File
	size int64  // bytes written
	left int    // bytes
	tail []byte // the last bytes written, also those that the file has no room for
	err  error  // the first failure
}

func createLog(path string, quiet bool) (*buildLog, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create build log: %w", err)
	}
	l := &buildLog{path: path, file: file, left: maxLog, quiet: quiet}
	l.begin(loggroup.BuildPart)
	if quiet {
		l.note("Logging is disabled for this image: what its build and its app write is not kept")
	}
	return l, nil
}

// openLog continues the log of a build that another process began.
func openLog(path string) (*buildLog, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open build log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open build log: %w", err), file.Close())
	}
	tail := make([]byte, min(info.Size(), tailBytes))
	if _, err := file.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return nil, errors.Join(fmt.Errorf("read build log: %w", err), file.Close())
	}
	return &buildLog{path: path, file: file, tail: tail}, nil
}

// Write never fails: a full disk must not look like a fault of the build.
func (l *buildLog) Write(p []byte) (int, error) {
	if l.quiet {
		return len(p), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remember(p)
	if l.left <= 0 {
		return len(p), nil
	}
	kept := p[:min(len(p), l.left)]
	l.left -= len(kept)
	l.append(kept)
	if l.left == 0 {
		l.append(fmt.Appendf(nil, "\n[the log is cut here: more than %d MiB]\n", maxLog>>20))
	}
	return len(p), nil
}

// note writes a line of our own, also into a log that is full.
func (l *buildLog) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := fmt.Appendf(nil, "==> "+format+"\n", args...)
	if len(l.tail) > 0 && l.tail[len(l.tail)-1] != '\n' {
		line = append([]byte("\n"), line...)
	}
	l.remember(line)
	l.append(line)
}

func (l *buildLog) append(p []byte) {
	n, err := l.file.Write(p)
	l.size += int64(n)
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("write build log: %w", err)
	}
}

// begin says of which microVM the build is what comes from now on. Whoever sends the log on, once it is
// complete, removes the file that says so; see package logship.
func (l *buildLog) begin(part loggroup.Part) {
	if l.quiet {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	path := partsFile(l.path)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	var file *os.File
	if err == nil {
		file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	if err == nil {
		_, err = fmt.Fprintf(file, "%s %d\n", part, l.size)
		err = errors.Join(err, file.Close())
	}
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("note the parts of the build log: %w", err)
	}
}

// partsFile is there until a build's log has been sent on.
func partsFile(path string) string {
	return filepath.Join(filepath.Dir(filepath.Dir(path)), unsentName, strings.TrimSuffix(filepath.Base(path), logSuffix))
}

func (l *buildLog) remember(p []byte) {
	l.tail = append(l.tail, p[max(0, len(p)-tailBytes):]...)
	if len(l.tail) > tailBytes {
		l.tail = bytes.Clone(l.tail[len(l.tail)-tailBytes:])
	}
}

// lastLines are the last 50 lines, or fewer when they are long.
func (l *buildLog) lastLines() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.SplitAfter(strings.ToValidUTF8(string(l.tail), "\uFFFD"), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	}
	return strings.Join(lines[max(0, len(lines)-tailLines):], "")
}

// close ends the log and tells what could not be written.
func (l *buildLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.err, l.file.Close())
}

func (l *buildLog) discard() {
	_ = l.close()
	_ = os.Remove(l.path)
	_ = os.Remove(partsFile(l.path))
}
