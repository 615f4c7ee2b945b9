package main

import (
	"io"
	"os"
	"time"
)

const (
	// drainLimit and drainSize bound what is read of bytes nobody wants, in time and bytes.
	drainLimit = 2 * time.Second
	drainSize  = 64 << 10
)

// drain reads a connection to its end, within bounds, and closes it: closing over unread bytes would
// reset it, and the other side might lose what it was told or complain about a broken pipe.
// It runs outside the loop.
func drain(fd int) {
	conn := os.NewFile(uintptr(fd), "drain")
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(drainLimit))
	_, _ = io.CopyN(io.Discard, conn, drainSize)
}
