package main

import (
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// boundedLog writes to a file of which it begins another when it is long. The descriptors stay the same, so
// that what is written past it, as by a panic, comes into the new file too.
type boundedLog struct {
	path, older string
	most        int64 // bytes
	file        *os.File
	descriptors []int // which lead to the file

	mu   sync.Mutex // guards size
	size int64
}

// daemonOutput is where the daemon logs: standard error. If that is the log that `dormouse up` has opened, it is kept bounded.
func daemonOutput(dir string) io.Writer {
	path := filepath.Join(dir, daemonLog)
	is, err := os.Stderr.Stat()
	if err != nil {
		return os.Stderr
	}
	log, err := os.Stat(path)
	if err != nil || !os.SameFile(is, log) {
		return os.Stderr
	}
	return &boundedLog{
		path: path, older: filepath.Join(dir, daemonLogOld), most: maxDaemonLog, file: os.Stderr, size: log.Size(),
		descriptors: []int{int(os.Stdout.Fd()), int(os.Stderr.Fd())},
	}
}

func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > l.most {
		if l.rotate() != nil { // a log that is too long is better than none; a look at it now and then is enough
			l.size = 0
		}
	}
	l.size += int64(len(p))
	return l.file.Write(p)
}

func (l *boundedLog) rotate() error {
	if err := os.Rename(l.path, l.older); err != nil {
		return err
	}
	next, err := openLogFile(l.path)
	if err != nil {
		return err
	}
	defer next.Close()
	for _, descriptor := range l.descriptors {
		if err := unix.Dup3(int(next.Fd()), descriptor, 0); err != nil {
			return err
		}
	}
	l.size = 0
	return nil
}

func openLogFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}
