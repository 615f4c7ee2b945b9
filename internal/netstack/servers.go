package netstack

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// serverTimeout is how long one DNS server may take before the next one is asked; all together have
// Limits.QueryTimeout.
const serverTimeout = 1500 * time.Millisecond

// AskServers is a resolver that asks these DNS servers, and not those of the host. They are the
// operator's choice and reached from the host, so any address will do.
func AskServers(servers []netip.AddrPort) Resolver {
	s := &serverList{servers: servers}
	return &net.Resolver{PreferGo: true, Dial: s.dial}
}

// serverList takes servers in turn: the resolver dials again when one did not answer.
type serverList struct {
	servers []netip.AddrPort
	turn    atomic.Uint32
}

func (s *serverList) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	turn := s.turn.Load()
	server := s.servers[turn%uint32(len(s.servers))]
	c, err := new(net.Dialer).DialContext(ctx, network, server.String())
	if err != nil {
		s.pass(turn)
		return nil, err
	}
	_, isPacket := c.(net.PacketConn)
	impatient := &impatientConn{c, s, turn}
	if isPacket { // the resolver tells UDP from TCP by this
		return &impatientPacketConn{impatient, c.(net.PacketConn)}, nil
	}
	return impatient, nil
}

// pass makes it the next server's turn, once however many questions the one whose turn it was leaves without an answer.
func (s *serverList) pass(turn uint32) { s.turn.CompareAndSwap(turn, turn+1) }

// impatientConn waits no longer than serverTimeout for an answer; another server is next then.
type impatientConn struct {
	net.Conn
	list *serverList
	turn uint32 // of its server
}

func (c *impatientConn) SetDeadline(t time.Time) error {
	if soon := time.Now().Add(serverTimeout); t.IsZero() || soon.Before(t) {
		t = soon
	}
	return c.Conn.SetDeadline(t)
}

func (c *impatientConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.list.pass(c.turn)
	}
	return n, err
}

type impatientPacketConn struct {
	*impatientConn
	packets net.PacketConn
}

func (c *impatientPacketConn) ReadFrom(b []byte) (int, net.Addr, error) { return c.packets.ReadFrom(b) }

func (c *impatientPacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	return c.packets.WriteTo(b, to)
}
