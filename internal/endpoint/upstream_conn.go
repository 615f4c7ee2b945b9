package endpoint

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// writePatience bounds how long a writer waits for what the app may still say.
const writePatience = 2 * time.Second

// meteredConn is a connection to a guest that reports every byte as use of the VM, and remembers how
// the app began to talk.
type meteredConn struct {
	net.Conn
	lease   Lease
	clock   clockwork.Clock
	patient atomic.Bool // HTTP/1: a response may come although the app no longer reads

	heard     [firstBytes]byte // only the reader's, until spoken is closed
	heardSize int
	spoken    chan struct{} // closed when heard is full, or nothing will follow
	hushOnce  sync.Once

	failure   atomic.Pointer[error] // the first of a read or write
	ended     chan struct{}         // closed when nothing more will be read
	endOnce   sync.Once
	closed    chan struct{}
	closeOnce sync.Once
	carried   atomic.Pointer[bodySending] // what is being sent on it
}

func newMeteredConn(conn net.Conn, lease Lease, clock clockwork.Clock) *meteredConn {
	return &meteredConn{
		Conn: conn, lease: lease, clock: clock,
		spoken: make(chan struct{}), ended: make(chan struct{}), closed: make(chan struct{}),
	}
}

// meteredConnOf finds the connection to the guest under TLS or HTTP/2.
func meteredConnOf(conn net.Conn) *meteredConn {
	switch c := conn.(type) {
	case *meteredConn:
		return c
	case *prefacedConn:
		return c.meteredConn
	case interface{ NetConn() net.Conn }:
		return meteredConnOf(c.NetConn())
	}
	return nil
}

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.lease.Touch(n)
	}
	if err != nil {
		c.failure.CompareAndSwap(nil, &err)
		c.endOnce.Do(func() { close(c.ended) })
	}
	if c.heardSize < firstBytes {
		c.heardSize += copy(c.heard[c.heardSize:], p[:n])
		if c.patient.Load() && isAlert(c.heard[:c.heardSize]) {
			err = errSpeaksTLS // it need not close behind it
		}
		if c.heardSize == firstBytes || err != nil {
			c.hush()
		}
	}
	return n, err
}

// Write sends. An app that answers early may close its end while a body is still being sent, and
// http.Transport would then drop the answer for the failed write. So a patient connection lets the
// writer wait until all was read that the app has said.
func (c *meteredConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.lease.Touch(n)
	}
	if err != nil {
		c.failure.CompareAndSwap(nil, &err)
	}
	if err != nil && c.patient.Load() && !errors.Is(err, ErrRefused) {
		_ = c.SetReadDeadline(time.Time{}) // guest.Client sets one to look for a refusal
		c.awaitEnd()
	}
	return n, err
}

// awaitEnd returns at the end of what the app says. It must not wait for Close alone: closing TLS writes, too.
func (c *meteredConn) awaitEnd() {
	timeout := c.clock.NewTimer(writePatience)
	defer timeout.Stop()
	select {
	case <-c.ended:
	case <-c.closed:
	case <-timeout.Chan():
	}
}

// Close also ends the wait for more of the request: http.Transport would wait for the client to send more
// before it reports that the app has gone.
func (c *meteredConn) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	err := c.Conn.Close()
	if body := c.carried.Load(); body != nil && c.patient.Load() {
		body.end(c.failure.Load())
	}
	return err
}

// CloseWrite passes on the end of one direction of an upgraded connection.
func (c *meteredConn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("close one direction to guest: %w", errors.ErrUnsupported)
}

// carries tells which body is sent on the connection from now on.
func (c *meteredConn) carries(body *bodySending) { c.carried.Store(body) }

func (c *meteredConn) hush() { c.hushOnce.Do(func() { close(c.spoken) }) }

// greeting is how the app began to talk. It is called when no more will be read.
func (c *meteredConn) greeting() greeting {
	select {
	case <-c.spoken:
		return greetingOf(c.heard[:c.heardSize])
	default:
		return saidSomething // its reader has not come to an end yet: there was no need for it
	}
}

// prefacedConn is one on which HTTP/2 is tried. The client's preface goes out; what follows waits
// until the app has answered it with SETTINGS, which every HTTP/2 server sends first (RFC 9113 3.4).
// So no request is lost on an app that does not speak HTTP/2, at the price of one round trip for
// each new connection.
type prefacedConn struct {
	*meteredConn
	prefaced bool // only the writer's, which http2 makes one at a time
	answered bool
}

func (c *prefacedConn) Write(p []byte) (int, error) {
	if !c.answered && c.prefaced {
		if err := c.awaitSettings(); err != nil {
			return 0, err
		}
		c.answered = true
	}
	c.prefaced = true
	return c.meteredConn.Write(p)
}

func (c *prefacedConn) awaitSettings() error {
	timeout := c.clock.NewTimer(handshakeTimeout)
	defer timeout.Stop()
	select {
	case <-c.spoken:
	case <-c.closed:
		return net.ErrClosed
	case <-timeout.Chan():
		return errNotHTTP2
	}
	switch failure := c.failure.Load(); {
	case greetingOf(c.heard[:c.heardSize]) == saidSettings:
		return nil
	case failure != nil:
		return *failure // a port where nothing listens, for one
	}
	return errNotHTTP2
}
