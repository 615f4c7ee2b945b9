package netstack

import (
	"context"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// QEMU holds frames that arrive while the VM is paused or waits for its state, and hands them over
// when it runs (measured with 7.2), so a SYN may be sent early. One that is lost all the same, for
// example because the guest's card was just being set up, is repeated after firstRepeat and then
// after twice as long each time. TCP itself repeats only after a second. A restored guest under
// emulation takes 40-60 ms to answer the first: a repeat before that is one more segment it has to
// deal with while all its code is cold.
const (
	firstRepeat = 160 * time.Millisecond
	lastRepeat  = 640 * time.Millisecond
)

// DialGuest connects to a TCP port of the guest from guest.GatewayIP. It may be called before the
// guest runs and then waits for it, as long as ctx allows. The connection has CloseWrite. A port
// nobody listens on gives an error that is syscall.ECONNREFUSED, an ended stack one that is ErrClosed.
func (s *Stack) DialGuest(ctx context.Context, port uint16) (net.Conn, error) {
	to := netip.AddrPortFrom(guestAddr, port)
	c, err := s.dialGuest(ctx, to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return c, nil
}

func (s *Stack) dialGuest(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if !s.enter() {
		return nil, ErrClosed
	}
	defer s.leave()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	events := new(waiter.Queue)
	endpoint, failed := s.net.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, events)
	if failed != nil {
		return nil, asError(failed)
	}
	if err := s.connect(ctx, endpoint, events, to); err != nil {
		endpoint.Abort()
		return nil, err
	}
	return newConn(events, endpoint), nil
}

func (s *Stack) connect(ctx context.Context, endpoint tcpip.Endpoint, events *waiter.Queue, to netip.AddrPort) error {
	if err := endpoint.Bind(fullAddress(netip.AddrPortFrom(gatewayAddr, 0))); err != nil {
		return asError(err)
	}
	from, err := endpoint.GetLocalAddress()
	if err != nil {
		return asError(err)
	}
	s.link.watchSYN(from.Port)
	defer s.link.forgetSYN(from.Port)
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents)
	events.EventRegister(&entry)
	defer events.EventUnregister(&entry)

	err = endpoint.Connect(fullAddress(to))
	if _, started := err.(*tcpip.ErrConnectStarted); !started {
		return asError(err)
	}
	pause := firstRepeat
	timer := s.cfg.Clock.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-writable:
			return asError(endpoint.LastError())
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return ErrClosed
		case <-timer.Chan():
			s.link.repeatSYN(from.Port)
			pause = min(2*pause, lastRepeat)
			timer.Reset(pause)
		}
	}
}
