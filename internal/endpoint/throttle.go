package endpoint

import (
	"context"
	"net"
	"sync"

	"github.com/jonboulle/clockwork"
	"golang.org/x/time/rate"
)

const (
	// burstsPerSecond is in how many parts a second's bytes may pass: often enough for a stream to
	// look even.
	burstsPerSecond = 16
	// throttledPiece is what a connection asks for at a time, in bytes. It is less than the smallest
	// burst, and the same for all: who asks for more at a time would get more.
	throttledPiece = 16 << 10
)

// throttledLease is a lease whose connections share their VM's bandwidth.
type throttledLease struct {
	Lease
	bytes *rate.Limiter
	clock clockwork.Clock
}

func (l throttledLease) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	conn, err := l.Lease.Dial(ctx, port)
	if err != nil {
		return nil, err
	}
	return &throttledConn{Conn: conn, bytes: l.bytes, clock: l.clock, closed: make(chan struct{})}, nil
}

// throttledConn waits for its share of the bandwidth: who is not read from or written to stops sending.
type throttledConn struct {
	net.Conn
	bytes   *rate.Limiter
	clock   clockwork.Clock
	closing sync.Once
	closed  chan struct{}
}

func (c *throttledConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), throttledPiece)])
	if n > 0 && !c.pay(n) {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *throttledConn) Write(p []byte) (written int, err error) {
	for {
		piece := p[:min(len(p), throttledPiece)]
		if !c.pay(len(piece)) {
			return written, net.ErrClosed
		}
		n, err := c.Conn.Write(piece)
		written += n
		if p = p[n:]; err != nil || len(p) == 0 {
			return written, err
		}
	}
}

// pay waits until n bytes may pass; false: the connection was closed meanwhile. Those who wait get
// their bytes in the order in which they came, so connections share evenly.
func (c *throttledConn) pay(n int) bool {
	now := c.clock.Now()
	wait := c.bytes.ReserveN(now, n).DelayFrom(now)
	if wait <= 0 {
		return true
	}
	timer := c.clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return true
	case <-c.closed:
		return false
	}
}

func (c *throttledConn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// CloseWrite passes on the end of one direction.
func (c *throttledConn) CloseWrite() error { return closeWrite(c.Conn) }
