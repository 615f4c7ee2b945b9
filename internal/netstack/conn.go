package netstack

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// closeTimeout bounds how long a closed connection may hold data and a FIN that the guest does not
// acknowledge. TCP's own bound is a quarter of an hour.
const closeTimeout = 30 * time.Second

// conn is a TCP connection with the guest.
type conn struct {
	*gonet.TCPConn
	endpoint tcpip.Endpoint
	events   *waiter.Queue
	closed   atomic.Bool
}

var _ interface {
	net.Conn
	CloseWrite() error
} = (*conn)(nil)

func newConn(events *waiter.Queue, endpoint tcpip.Endpoint) *conn {
	return &conn{TCPConn: gonet.NewTCPConn(events, endpoint), endpoint: endpoint, events: events}
}

// Read is net.Conn's, with the errors of the net package.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if err == io.EOF && c.closed.Load() {
		return n, net.ErrClosed // gVisor does not tell our end from the guest's
	}
	return n, deadlineExceeded(err)
}

// Write is net.Conn's, with the errors of the net package.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, deadlineExceeded(err)
}

// deadlineExceeded puts os.ErrDeadlineExceeded where gVisor has a timeout error of its own.
func deadlineExceeded(err error) error {
	if op, ok := err.(*net.OpError); ok && op.Timeout() { //nolint:errorlint // gVisor returns it bare
		op.Err = os.ErrDeadlineExceeded
	}
	return err
}

// Close sends what was written and a FIN, and lets go of both when the guest is deaf.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	// An endpoint that is already gone refuses the option, and needs it no more.
	_ = c.endpoint.SetSockOpt(new(tcpip.TCPUserTimeoutOption(closeTimeout)))
	return c.TCPConn.Close()
}

// abort ends the connection with a RST: the guest must not take a cut stream for a complete one.
func (c *conn) abort() {
	c.closed.Store(true)
	c.endpoint.Abort()
	c.endpoint.Close()
}

// waitGone returns when the stack has forgotten the closed connection.
func (c *conn) waitGone() {
	entry, hungUp := waiter.NewChannelEntry(waiter.EventHUp | waiter.EventErr)
	c.events.EventRegister(&entry)
	defer c.events.EventUnregister(&entry)
	for {
		switch tcp.EndpointState(c.endpoint.State()) {
		case tcp.StateClose, tcp.StateError:
			return
		}
		<-hungUp
	}
}

// asError turns gVisor's errors into those of the standard library, where it has them.
func asError(err tcpip.Error) error {
	switch err.(type) {
	case nil:
		return nil
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrAborted, *tcpip.ErrConnectionAborted:
		return ErrClosed
	}
	return errors.New(err.String())
}

func tcpipAddr(a netip.Addr) tcpip.Address { return tcpip.AddrFrom4(a.As4()) }

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpipAddr(a.Addr()), Port: a.Port()}
}
