package logship

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
)

// Files keeps lines in a file for each stream, below a folder for each account. It is bounded: each stream has its newest
// lines, and each account its newest streams.
type Files struct {
	dir          string
	streamBytes  int64
	accountBytes int64
	keep         time.Duration

	mu sync.Mutex // held while a file is written or removed
}

var _ Sink = (*Files)(nil)

// NewFiles keeps lines under dir: of each stream so many bytes, of each account so many, and streams for so long after
// their last line.
func NewFiles(dir string, streamBytes, accountBytes int64, keep time.Duration) *Files {
	return &Files{dir: dir, streamBytes: max(streamBytes, logfile.MinAppBytes), accountBytes: accountBytes, keep: keep}
}

// Put implements Sink. A line is "TIME TEXT".
func (f *Files) Put(_ context.Context, to loggroup.Destination, lines []logfile.Line) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := filepath.Join(f.dir, to.Path())
	var out []byte
	for _, line := range lines {
		out = line.At.UTC().AppendFormat(out, "2006-01-02T15:04:05.000000Z")
		out = append(append(append(out, ' '), message(line)...), '\n')
		if int64(len(out)) >= f.streamBytes/4 {
			if err := logfile.Append(path, f.streamBytes, out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	if len(out) == 0 {
		return nil
	}
	return logfile.Append(path, f.streamBytes, out)
}

// leastFile is what a file takes of its account at least, in bytes: a block of the disk. So many small ones are bounded too.
const leastFile = 4 << 10

// kept is a file of a stream.
type kept struct {
	path string
	size int64
	last time.Time
}

// Expire removes streams that were last written before now less what they are kept for, and the oldest of an account that
// has too much.
func (f *Files) Expire(now time.Time) error {
	accounts, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, account := range accounts {
		err = errors.Join(err, f.expire(filepath.Join(f.dir, account.Name()), now.Add(-f.keep)))
	}
	return err
}

func (f *Files) expire(account string, before time.Time) error {
	var files []kept
	var folders []string
	err := filepath.WalkDir(account, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			folders = append(folders, path)
			return nil
		}
		info, err := entry.Info()
		if err == nil {
			files = append(files, kept{path, info.Size(), info.ModTime()})
		}
		return ignoreMissing(err)
	})
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b kept) int { return b.last.Compare(a.last) })
	f.mu.Lock()
	defer f.mu.Unlock()
	var sum int64
	for _, file := range files {
		if sum += max(file.size, leastFile); sum <= f.accountBytes && !file.last.Before(before) {
			continue
		}
		err = errors.Join(err, ignoreMissing(os.Remove(file.path)))
	}
	for _, folder := range slices.Backward(folders) {
		_ = os.Remove(folder) // unless it holds something
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
