package logfile

import (
	"errors"
	"os"
	"path/filepath"
)

// older is what the name of the part before the newest one ends with.
const older = ".1"

// segment is the newest part of a bounded log. When it is half of what is kept, it becomes the older
// part, and the one that was that before goes.
type segment struct {
	path string
	most int64 // bytes
	file *os.File
	size int64
}

// openSegment makes the log, and its folder, where it is missing.
func openSegment(path string, keep int64) (*segment, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	s := &segment{path: path, most: keep / 2}
	return s, s.open()
}

func (s *segment) open() error {
	file, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	s.file, s.size = file, info.Size()
	return nil
}

// full tells whether so many bytes more belong into a new segment.
func (s *segment) full(more int) bool { return s.size > 0 && s.size+int64(more) > s.most }

// rotate begins a new segment.
func (s *segment) rotate() error {
	if err := os.Rename(s.path, s.path+older); err != nil {
		return err
	}
	before := s.file
	if err := s.open(); err != nil {
		// It stays the newest part: nobody finds what would be written to another.
		return errors.Join(err, os.Rename(s.path+older, s.path))
	}
	return before.Close()
}

// append writes all of text or nothing.
func (s *segment) append(text []byte) error {
	if s.full(len(text)) {
		if err := s.rotate(); err != nil {
			return err
		}
	}
	if _, err := s.file.Write(text); err != nil {
		return errors.Join(err, s.file.Truncate(s.size)) // what a full disk took of it
	}
	s.size += int64(len(text))
	return nil
}

func (s *segment) close() error { return s.file.Close() }
