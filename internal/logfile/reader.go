package logfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// Reader reads a log from what is left of its beginning. At its end it returns io.EOF and may be read
// on later: it then goes on with what was written since, in whatever segment.
type Reader struct {
	path    string
	before  *os.File // the older segment, until it was read
	present *os.File // nil while the log has not begun
	sizes   [2]int64 // of before and present when the reader was opened
	last    *os.File // the segment that was read before present; kept, so that no other gets its identity
	note    []byte   // to be read before the next segment
	skipped func() []byte
}

// Open opens a log, which need not exist yet. skipped makes the line that stands where the reader was
// too slow for the log; nil makes none.
func Open(path string, skipped func() []byte) (*Reader, error) {
	const tries = 5 // a log may move on between the opening of the two
	for try := 1; ; try++ {
		r := &Reader{path: path, skipped: skipped}
		err := r.open()
		if err == nil && (!r.same() || try == tries) {
			return r, nil
		}
		err = errors.Join(err, r.Close())
		if err != nil {
			return nil, err
		}
	}
}

func (r *Reader) open() (err error) {
	if r.present, err = openIf(r.path); err != nil {
		return err
	}
	if r.before, err = openIf(r.path + older); err != nil {
		return err
	}
	for i, file := range []*os.File{r.before, r.present} {
		if file == nil {
			continue
		}
		info, err := file.Stat()
		if err != nil {
			return err
		}
		r.sizes[i] = info.Size()
	}
	return nil
}

// same tells that both files are one: what was the present segment is the older one by now.
func (r *Reader) same() bool {
	if r.before == nil || r.present == nil {
		return false
	}
	a, errA := r.before.Stat()
	b, errB := r.present.Stat()
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// openIf opens a file if it exists.
func openIf(path string) (*os.File, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return file, err
}

// Snapshot reads what the log held when the reader was opened, apart from Read.
func (r *Reader) Snapshot() io.Reader {
	var parts []io.Reader
	for i, file := range []*os.File{r.before, r.present} {
		if file != nil {
			parts = append(parts, io.NewSectionReader(file, 0, r.sizes[i]))
		}
	}
	return io.MultiReader(parts...)
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		if len(r.note) > 0 {
			n := copy(p, r.note)
			r.note = r.note[n:]
			return n, nil
		}
		if r.before != nil {
			n, err := r.before.Read(p)
			if n > 0 || !errors.Is(err, io.EOF) {
				return n, err
			}
			r.leave(&r.before)
		}
		if r.present == nil {
			if err := r.enter(); err != nil {
				return 0, err
			}
			if r.present == nil {
				return 0, io.EOF
			}
			continue
		}
		n, err := r.present.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) || !r.rotated() {
			return n, err
		}
		// It is complete now: what came between the two looks at it is there.
		if n, err = r.present.Read(p); n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		r.leave(&r.present)
	}
}

// rotated tells that the log goes on in another file than the present one.
func (r *Reader) rotated() bool { return !isFile(r.present, r.path) && exists(r.path) }

// leave lets go of a segment that was read.
func (r *Reader) leave(segment **os.File) {
	if r.last != nil {
		r.last.Close()
	}
	r.last, *segment = *segment, nil
}

// enter opens the newest segment, if the log has begun. If the one before that is not the one that was
// read last, others were missed.
func (r *Reader) enter() (err error) {
	missed := !r.isLast(r.path + older)
	if r.present, err = openIf(r.path); err != nil || r.present == nil {
		return err
	}
	if !isFile(r.present, r.path+older) { // or it was the newest until a moment ago
		missed = !r.isLast(r.path + older)
	}
	if missed && r.skipped != nil {
		r.note = r.skipped()
	}
	return nil
}

// isLast tells whether a path leads to the segment that was read last, or to nothing if none was.
func (r *Reader) isLast(path string) bool {
	if r.last == nil {
		return !exists(path)
	}
	return isFile(r.last, path)
}

func isFile(file *os.File, path string) bool {
	a, errA := file.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Close lets go of the log.
func (r *Reader) Close() error {
	var failed []error
	for _, file := range []*os.File{r.before, r.present, r.last} {
		if file != nil {
			failed = append(failed, file.Close())
		}
	}
	return errors.Join(failed...)
}
