package main

import (
	"sync"
	"time"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

const (
	// journalSize bounds what the agent keeps of the app's output, in bytes.
	journalSize = 256 << 10
	// pieceSize is the largest piece of one event, in bytes (guest.LogEvent).
	pieceSize = 32 << 10
	// pieceCost is what a piece takes beyond its text: an app that writes byte by byte must not
	// make the journal many times its size.
	pieceCost = 128
)

// journal keeps the newest part of what the app wrote, and how it ended. Writers never wait for
// readers: one that is too slow is told how much it missed.
type journal struct {
	now func() time.Time

	mu      sync.Mutex
	pieces  []piece       // guarded by mu
	size    int           // guarded by mu: of all pieces, with their cost
	written int64         // guarded by mu: bytes ever written
	exit    *int          // guarded by mu: the app's exit code
	changed chan struct{} // guarded by mu: closed on the next change
}

type piece struct {
	stream string
	nanos  int64
	data   []byte
	offset int64 // bytes written before it
}

func newJournal() *journal {
	return &journal{now: time.Now, changed: make(chan struct{})}
}

// write adds a copy of data, in pieces.
func (j *journal) write(stream string, data []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	nanos := j.now().UnixNano()
	for len(data) > 0 {
		n := min(len(data), pieceSize)
		j.pieces = append(j.pieces, piece{stream, nanos, append([]byte(nil), data[:n]...), j.written})
		j.written += int64(n)
		j.size += n + pieceCost
		data = data[n:]
	}
	drop := 0
	for ; j.size > journalSize; drop++ {
		j.size -= len(j.pieces[drop].data) + pieceCost
	}
	clear(j.pieces[:drop])
	j.pieces = j.pieces[drop:]
	j.wake()
}

// end records how the app ended; nothing follows.
func (j *journal) end(code int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.exit = &code
	j.wake()
}

func (j *journal) wake() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// journalReader is one place in the journal.
type journalReader struct {
	journal  *journal
	position int64 // bytes written before what comes next
	ended    bool  // the exit was told
}

// next returns the next event, or a channel that is closed when there may be one.
func (r *journalReader) next() (*guest.Event, <-chan struct{}) {
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, p := range j.pieces {
		if p.offset < r.position {
			continue
		}
		log := &guest.LogEvent{Stream: p.stream, UnixNanos: p.nanos, Data: p.data, Dropped: p.offset - r.position}
		r.position = p.offset + int64(len(p.data))
		return &guest.Event{Log: log}, nil
	}
	if j.exit != nil && !r.ended {
		r.ended = true
		return &guest.Event{Exit: &guest.ExitEvent{Code: *j.exit}}, nil
	}
	return nil, j.changed
}
