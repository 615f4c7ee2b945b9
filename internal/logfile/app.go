package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// ErrNonsense says that output is not what an agent would send. Nothing of it was kept.
var ErrNonsense = errors.New("the guest's output makes no sense")

const (
	// maxPiece bounds what comes at once, in bytes (guest.LogEvent).
	maxPiece = 32 << 10
	// maxPosition is far beyond what any app writes.
	maxPosition = 1 << 60
	// batch is about what is written at once, in bytes.
	batch = 64 << 10
)

// App is the log of a microVM's app. Output has a position: the bytes that the app wrote before it.
// What comes again is left out, so that whoever lost track can send everything that is still known.
// It is safe for concurrent use.
type App struct {
	folder *Folder
	id     string

	mu       sync.Mutex // guards all below
	opened   bool       // position is known
	position int64      // of what comes next
	base     int64      // bytes of the log before its newest segment, also those that are gone
	log      *segment   // nil until there is output, and after a failure to open it
	state    *os.File
	failing  bool
	unkept   int64 // bytes that could not be written, because of a full disk for example
	closed   bool
}

// App returns the log of a microVM's app, of which there may be one at a time. It touches no file before output comes.
func (f *Folder) App(id string) *App { return &App{folder: f, id: id} }

// BeginAt says where the app's log begins, if it has not begun yet.
func (a *App) BeginAt(position int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.opened {
		a.position, a.unkept = position, 0 // what could not be written comes again
	}
}

// Append keeps what the app wrote to a stream at a position. The first of several errors in a row is
// returned; what could not be kept is noted in the log as soon as that is possible.
func (a *App) Append(position int64, stream string, at time.Time, data []byte) error {
	if position < 0 || position > maxPosition || len(data) > maxPiece || stream == Note || !known(stream) {
		return ErrNonsense
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	err := a.open()
	if end := position + int64(len(data)); end <= a.position {
		return nil
	}
	data = data[max(0, a.position-position):]
	position = max(position, a.position)
	if err == nil {
		err = a.write(position, stream, at, data)
	}
	first := !a.failing
	a.failing = err != nil
	if err == nil {
		return nil
	}
	a.unkept += position + int64(len(data)) - a.position
	a.position = position + int64(len(data))
	if !first {
		return nil
	}
	return fmt.Errorf("keep the output of microVM %s: %w", a.id, err)
}

// write adds data at a position that is not before a.position, which follows what is written.
func (a *App) write(position int64, stream string, at time.Time, data []byte) error {
	out := a.notes(at, position-a.position)
	for len(data) > 0 {
		text, tag, rest := cutText(data)
		out = appendEntry(out, at, stream, tag, text)
		position += int64(len(data) - len(rest))
		data = rest
		if len(out) < batch && len(data) > 0 {
			continue
		}
		if err := a.flush(out, position); err != nil {
			return err
		}
		out = out[:0]
	}
	return nil
}

// notes tells of what is missing.
func (a *App) notes(at time.Time, dropped int64) (out []byte) {
	if dropped > 0 {
		out = appendEntry(out, at, Note, fullTag, fmt.Appendf(nil, "[%d bytes of output were lost here: the app wrote more than its VM could keep]", dropped))
	}
	if a.unkept > 0 {
		out = appendEntry(out, at, Note, fullTag, fmt.Appendf(nil, "[%d bytes of output could not be written to the host's disk]", a.unkept))
	}
	return out
}

// flush writes lines, and then how far the log goes.
func (a *App) flush(out []byte, position int64) error {
	if a.log.full(len(out)) {
		if err := a.turn(); err != nil {
			return err
		}
	}
	if err := a.log.append(out); err != nil {
		return err
	}
	a.position, a.unkept = position, 0
	if err := a.remember(); err != nil {
		return err
	}
	if a.folder.grown != nil {
		a.folder.grown(a.id)
	}
	return nil
}

// turn begins a new segment. Since must not look between its two steps.
func (a *App) turn() error {
	a.folder.turning.Lock()
	defer a.folder.turning.Unlock()
	before := a.log.size
	if err := a.log.rotate(); err != nil {
		return err
	}
	a.base += before
	return a.remember()
}

// state is what the state file holds: the position, the size of the newest segment that goes with it, and the
// bytes in all segments before that one. A daemon that is killed between a write to the log and one to this file
// leaves a log that is too long.
type state struct{ position, size, base int64 }

const stateForm = "%020d %020d %020d\n"

func (a *App) remember() error {
	_, err := a.state.WriteAt(fmt.Appendf(nil, stateForm, a.position, a.log.size, a.base), 0)
	return err
}

// readState reads the state file beside a log; ok tells that there is a usable one.
func readState(logPath string) (s state, ok bool, err error) {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(logPath), stateName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, false, err
	}
	if n, _ := fmt.Sscanf(string(text), stateForm, &s.position, &s.size, &s.base); n < 3 {
		if n < 2 {
			return state{}, false, nil
		}
		s.base = sizeOf(logPath + older) // of a version that did not count it
	}
	if s.position < 0 || s.size < 0 || s.base < 0 || s.position > maxPosition || s.base > maxPosition {
		return state{}, false, nil
	}
	if size := sizeOf(logPath); size < s.size { // a daemon was killed in the middle of turn
		s.base, s.size = s.base+sizeOf(logPath+older), size
	}
	return s, true, nil
}

// sizeOf is the length of a file, 0 if it cannot be told.
func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// open goes on where the log ends.
func (a *App) open() (err error) {
	if a.log != nil {
		return nil
	}
	log, err := openSegment(a.folder.Path(a.id, AppName), a.folder.appBytes)
	if err != nil {
		return err
	}
	if err := a.recall(log); err != nil {
		return errors.Join(err, log.close())
	}
	a.log = log
	return a.remember()
}

// recall opens the state file and makes the log as long as that says.
func (a *App) recall(log *segment) error {
	was, known, err := readState(log.path)
	if err != nil {
		return err
	}
	switch {
	case a.opened:
	case !known:
		a.base = sizeOf(log.path + older)
	default:
		a.position, a.base = was.position, was.base
		if was.size < log.size {
			if err := log.file.Truncate(was.size); err != nil {
				return err
			}
			log.size = was.size
		}
	}
	a.opened = true
	a.state, err = os.OpenFile(filepath.Join(filepath.Dir(log.path), stateName), os.O_WRONLY|os.O_CREATE, 0o600)
	return err
}

// Discard keeps nothing of what the app writes, from now on.
func (a *App) Discard() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
}

// Settle makes durable what was kept, and lets go of the files until there is more. Whoever appends meanwhile
// does not wait for that.
func (a *App) Settle() error {
	a.mu.Lock()
	log, state := a.log, a.state
	a.log, a.state = nil, nil
	a.mu.Unlock()
	if log == nil {
		return nil
	}
	// The text first: a position without its text would be a gap.
	err := errors.Join(log.file.Sync(), state.Sync(), log.close(), state.Close())
	if err != nil {
		return fmt.Errorf("settle the log of microVM %s: %w", a.id, err)
	}
	return nil
}

// Close ends the log: what comes after it is not kept. It may be called again.
func (a *App) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.log == nil {
		return nil
	}
	err := errors.Join(a.log.close(), a.state.Close())
	a.log = nil
	if err != nil {
		return fmt.Errorf("close the log of microVM %s: %w", a.id, err)
	}
	return nil
}
