package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/bench/payload"
)

// remembering is what the guest must still have after a suspend: a record in memory and one in a file.
type remembering struct {
	mu    sync.Mutex // guards what follows
	nonce string
	round uint64
	inRAM *payload.Record
	file  *os.File
	next  *payload.Record // makes what goes into the file
}

func newRemembering(path string) (*remembering, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("make the record's file: %w", err)
	}
	r := &remembering{nonce: rand.Text(), inRAM: payload.NewMemory(), file: file, next: payload.NewDisk()}
	return r, r.write(0, r.next.Bytes())
}

// step returns what the guest finds of what the steps before left, and changes memory and file for round.
func (r *remembering) step(round uint64) (found payload.Remembered, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found = payload.Remembered{Nonce: r.nonce, Round: r.round, Memory: payload.Sum(r.inRAM.Bytes())}
	if found.Disk, err = r.sumFile(); err != nil {
		return found, err
	}
	r.round = round
	r.inRAM.Advance(round)
	return found, r.write(r.next.Advance(round))
}

func (r *remembering) write(offset int, changed []byte) error {
	if _, err := r.file.WriteAt(changed, int64(offset)); err != nil {
		return fmt.Errorf("write the record's file: %w", err)
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("write the record's file: %w", err)
	}
	return nil
}

// sumFile reads the file from the disk: what the page cache has of it is memory, not disk.
func (r *remembering) sumFile() (sum uint32, err error) {
	if err := unix.Fadvise(int(r.file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return 0, fmt.Errorf("drop the record's file from the page cache: %w", err)
	}
	content, err := io.ReadAll(io.NewSectionReader(r.file, 0, 1<<40))
	if err != nil {
		return 0, fmt.Errorf("read the record's file: %w", err)
	}
	return payload.Sum(content), nil
}
