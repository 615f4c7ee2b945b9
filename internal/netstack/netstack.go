// Package netstack is the user-space network of one microVM: the daemon dials into the guest through it, and the guest reaches through it what its policy allows.
package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/jonboulle/clockwork"
)

// ErrClosed is what every blocked call returns once the stack is closed or its frame stream ended.
var ErrClosed = errors.New("the microVM's network is closed")

// Config says what one VM may reach and through what. The zero value is a sealed VM: the host can
// dial in, nothing goes out, and names do not resolve.
type Config struct {
	// Policy is what the guest may reach.
	Policy Policy
	// Services are TCP services inside the stack, for example 10.0.2.4:5000 for a registry
	// mirror. They are reachable whatever the policy says. Port 53 of guest.ResolverIP is taken.
	Services map[netip.AddrPort]Handler
	// Resolver answers the guest's DNS questions; nil means net.DefaultResolver.
	Resolver Resolver
	// Dial makes connections that the policy allowed; nil means a net.Dialer. The address is
	// always IP:port.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// HostAddrs lists the addresses of the host's own interfaces, asked for each connection;
	// nil means net.InterfaceAddrs. The guest never reaches them.
	HostAddrs func() ([]netip.Addr, error)
	// Denied is told about each refused destination. It must not block; nil means nobody listens.
	Denied func(Denial)
	// Limits bounds what one guest can make the daemon hold.
	Limits Limits
	// Clock paces retries; nil means the real one.
	Clock clockwork.Clock
}

// Handler serves one connection from the guest and closes it.
type Handler func(net.Conn)

// Limits bounds one VM. A zero member means its default.
type Limits struct {
	// Connections the guest may have open outwards at once; default 1024.
	Connections int
	// Queries of DNS that may be in flight at once; default 64.
	Queries int
	// ConnectTimeout bounds the dial behind one outward connection; default 10 s.
	ConnectTimeout time.Duration
	// QueryTimeout bounds one DNS question; default 5 s.
	QueryTimeout time.Duration
}

// Denial is one refused destination.
type Denial struct {
	Destination netip.AddrPort
	Rule        Rule
}

// Resolver is the part of *net.Resolver the guest's DNS server asks.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupCNAME(ctx context.Context, host string) (string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNS(ctx context.Context, name string) ([]*net.NS, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

var _ Resolver = (*net.Resolver)(nil)

// Counters are totals since New. Directions are as the guest sees them.
type Counters struct {
	// FramesIn and BytesIn are Ethernet frames towards the guest, FramesOut and BytesOut from it.
	FramesIn, FramesOut uint64
	BytesIn, BytesOut   uint64
	// EgressSent and EgressReceived are payload bytes of connections the guest made outwards.
	EgressSent, EgressReceived uint64
	// Denied counts refused destinations.
	Denied uint64
}

// Stack is the network of one running VM.
type Stack struct {
	done chan struct{}
}

// New runs a stack over conn, QEMU's frame stream (-netdev stream), until Close or until the
// stream ends. It owns conn from here on.
func New(conn net.Conn, cfg Config) (*Stack, error) {
	return nil, errors.New("not written yet")
}

// DialGuest connects to a TCP port of the guest from guest.GatewayIP. The connection has CloseWrite.
// A port nobody listens on gives an error that is syscall.ECONNREFUSED.
func (s *Stack) DialGuest(ctx context.Context, port uint16) (net.Conn, error) {
	return nil, ErrClosed
}

// Counters returns the totals so far; after Close, the last ones.
func (s *Stack) Counters() Counters { return Counters{} }

// Close ends every connection of the VM and the frame stream, and waits until nothing of the
// stack runs any more. A service's handler must return once its connection fails.
func (s *Stack) Close() error { return nil }

// Done is closed when the frame stream ended, by Close or by the other side.
func (s *Stack) Done() <-chan struct{} { return s.done }
