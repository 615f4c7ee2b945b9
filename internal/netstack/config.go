package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// ErrClosed is what DialGuest returns once the stack is closed or its frame stream ended.
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
	// always IP:port. Half-closing works where its connections have CloseWrite.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// HostAddrs lists the addresses of the host's own interfaces, asked for each connection;
	// nil means net.InterfaceAddrs. The guest never reaches them.
	HostAddrs func() ([]netip.Addr, error)
	// Denied is told about every refusal, as often as a guest asks for one. It must be quick; nil
	// means nobody listens.
	Denied func(Denial)
	// Moved is called whenever payload of a connection that the guest made outwards has moved. It
	// must be quick; nil means nobody wants to know.
	Moved func()
	// Meter gets the totals, which outlive the stack; nil means one of its own.
	Meter *Meter
	// Names are what the guest was told before; nil means nothing.
	Names *Names
	// Limits bounds what one guest can make the daemon hold.
	Limits Limits
	// Clock paces repeated SYNs, greetings and what is known of names; nil means the real one.
	Clock clockwork.Clock
}

// Handler serves one connection from the guest and closes it. It may keep the connection after
// returning, and must give up once the connection fails.
type Handler func(net.Conn)

// Limits bounds one VM. A zero member means its default.
type Limits struct {
	// Connections the guest may have open outwards (and to services) at once; default 1024.
	Connections int
	// Queries of DNS that may be in flight at once; default 64.
	Queries int
	// ConnectTimeout bounds the dial behind one outward connection; default 10 s.
	ConnectTimeout time.Duration
	// QueryTimeout bounds one DNS question; default 5 s.
	QueryTimeout time.Duration
}

// Meter are totals over the stacks of one VM.
type Meter struct {
	// Sent and Received are payload bytes of connections that the guest made outwards.
	Sent, Received atomic.Uint64
	// Denied counts refusals.
	Denied atomic.Uint64
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

func (c Config) withDefaults() Config {
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.HostAddrs == nil {
		c.HostAddrs = interfaceAddrs
	}
	if c.Denied == nil {
		c.Denied = func(Denial) {}
	}
	if c.Meter == nil {
		c.Meter = new(Meter)
	}
	if c.Names == nil {
		c.Names = new(Names)
	}
	if c.Clock == nil {
		c.Clock = clockwork.NewRealClock()
	}
	setDefault(&c.Limits.Connections, 1024)
	setDefault(&c.Limits.Queries, 64)
	setDefault(&c.Limits.ConnectTimeout, 10*time.Second)
	setDefault(&c.Limits.QueryTimeout, 5*time.Second)
	return c
}

func setDefault[T int | time.Duration](member *T, value T) {
	if *member <= 0 {
		*member = value
	}
}

func interfaceAddrs() ([]netip.Addr, error) {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, n := range nets {
		if prefix, ok := n.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(prefix.IP); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	return out, nil
}
