package endpoint

import (
	"context"
	"net"
	"sync"

	"github.com/jonboulle/clockwork"
	"golang.org/x/time/rate"

	"github.com/dormouse-dev/dormouse/internal/guest"
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

// Exec implements Lease.
func (l throttledLease) Exec(ctx context.Context, r guest.ExecRequest) (Process, error) {
	process, err := l.Lease.Exec(ctx, r)
	if err != nil {
		return nil, err
	}
	return &throttledProcess{Process: process, bytes: l.bytes, clock: l.clock, closed: make(chan struct{})}, nil
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

func (c *throttledConn) pay(n int) bool { return pay(c.bytes, c.clock, n, c.closed) }

// pay waits until n bytes may pass, at most throttledPiece; false: who waits was closed meanwhile. Those who
// wait get their bytes in the order in which they came, so connections share evenly.
func pay(bytes *rate.Limiter, clock clockwork.Clock, n int, closed <-chan struct{}) bool {
	now := clock.Now()
	wait := bytes.ReserveN(now, n).DelayFrom(now)
	if wait <= 0 {
		return true
	}
	timer := clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return true
	case <-closed:
		return false
	}
}

func (c *throttledConn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// CloseWrite passes on the end of one direction.
func (c *throttledConn) CloseWrite() error { return closeWrite(c.Conn) }

// throttledProcess is a shell or a command whose input and output wait for their share of the bandwidth.
type throttledProcess struct {
	Process
	bytes   *rate.Limiter
	clock   clockwork.Clock
	closing sync.Once
	closed  chan struct{}
}

// Next implements Process.
func (p *throttledProcess) Next() (guest.ExecOutput, error) {
	out, err := p.Process.Next()
	for left := len(out.Data); left > 0; left -= throttledPiece {
		if !pay(p.bytes, p.clock, min(left, throttledPiece), p.closed) {
			return guest.ExecOutput{}, net.ErrClosed
		}
	}
	return out, err
}

// Input implements Process.
func (p *throttledProcess) Input(data []byte) error {
	for len(data) > 0 {
		piece := data[:min(len(data), throttledPiece)]
		if !pay(p.bytes, p.clock, len(piece), p.closed) {
			return net.ErrClosed
		}
		if err := p.Process.Input(piece); err != nil {
			return err
		}
		data = data[len(piece):]
	}
	return nil
}

// Close implements Process.
func (p *throttledProcess) Close() error {
	p.closing.Do(func() { close(p.closed) })
	return p.Process.Close()
}
