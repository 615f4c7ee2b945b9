package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrRefused says that nothing listens on the port in the guest.
	ErrRefused = errors.New("guest: connection refused")
	// ErrForward says that the agent could not connect for another reason.
	ErrForward = errors.New("guest: port cannot be reached")
)

// refusalWait is how long a failed Write looks for the refusal that caused it. The status byte is
// then already on its way, or never comes.
const refusalWait = 100 * time.Millisecond

// Forward connects to a TCP port on the guest's loopback. It returns as soon as the agent
// accepted the connection, without waiting for its answer: the first request bytes travel
// right behind the preamble, and save the guest one wake-up while its code is cold. So a port where
// nothing listens is reported by the first Read (or a Write that fails): errors.Is ErrRefused.
func (c *Client) Forward(ctx context.Context, port uint16) (net.Conn, error) {
	if port == 0 {
		return nil, fmt.Errorf("forward to port 0: %w", ErrForward)
	}
	conn, err := c.open(ctx, OpForward, port)
	if err != nil {
		return nil, fmt.Errorf("forward to port %d: %w", port, err)
	}
	return &forwardConn{Conn: conn}, nil
}

// Listens tells whether something accepts connections on a TCP port of the guest's loopback.
func (c *Client) Listens(ctx context.Context, port uint16) (listens bool, err error) {
	conn, err := c.Forward(ctx, port)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer abortWith(ctx, conn, &err)()
	err = conn.(*forwardConn).check()
	if errors.Is(err, ErrRefused) {
		return false, nil
	}
	return err == nil, err
}

// forwardConn takes the status byte off the front of what the agent sends.
type forwardConn struct {
	net.Conn
	decided atomic.Bool // the app has taken the connection, or never will

	mu      sync.Mutex
	checked bool  // guarded by mu: the status byte was read
	status  error // guarded by mu: what it said
}

func (f *forwardConn) Read(p []byte) (int, error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	return f.Conn.Read(p)
}

func (f *forwardConn) Write(p []byte) (int, error) {
	n, err := f.Conn.Write(p)
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		return n, err
	}
	// The agent closes after a refusal: tell that, not the broken pipe which follows from it.
	_ = f.SetReadDeadline(time.Now().Add(refusalWait))
	if status := f.check(); errors.Is(status, ErrRefused) || errors.Is(status, ErrForward) {
		return n, status
	}
	return n, err
}

// Pending tells whether the app has still to take the connection: it has no room in its backlog.
func (f *forwardConn) Pending() bool { return !f.decided.Load() }

func (f *forwardConn) Close() error {
	f.decided.Store(true)
	return f.Conn.Close()
}

// CloseWrite ends the stream towards the app and leaves the other direction open.
func (f *forwardConn) CloseWrite() error {
	if half, ok := f.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// check reads the status byte, once. An I/O error is not remembered: a deadline may be moved.
func (f *forwardConn) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.checked {
		return f.status
	}
	var status [1]byte
	if _, err := f.Conn.Read(status[:]); err != nil {
		return err
	}
	f.checked = true
	f.decided.Store(true)
	switch ForwardStatus(status[0]) {
	case ForwardOK:
	case ForwardRefused:
		f.status = ErrRefused
	default:
		f.status = ErrForward
	}
	return f.status
}
