package microvm

import (
	"errors"
	"net"
	"sync/atomic"

	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// traffic counts what a microVM moves over its whole life, in bytes as the guest sees them.
type traffic struct {
	ingressIn, ingressOut atomic.Uint64
	egress                netstack.Meter
}

// goOnFrom takes over what was recorded before.
func (t *traffic) goOnFrom(before store.Traffic) {
	t.ingressIn.Store(before.IngressIn)
	t.ingressOut.Store(before.IngressOut)
	t.egress.Received.Store(before.EgressIn)
	t.egress.Sent.Store(before.EgressOut)
	t.egress.Denied.Store(before.Denied)
}

func (t *traffic) totals() store.Traffic {
	return store.Traffic{
		IngressIn: t.ingressIn.Load(), IngressOut: t.ingressOut.Load(),
		EgressIn: t.egress.Received.Load(), EgressOut: t.egress.Sent.Load(), Denied: t.egress.Denied.Load(),
	}
}

// Traffic is what all microVMs of this data folder have moved that were there when the daemon
// started or came since. It never goes down.
func (m *Manager) Traffic() store.Traffic {
	m.mu.RLock()
	defer m.mu.RUnlock()
	total := m.departed
	for _, v := range m.vms {
		total = sum(total, v.traffic.totals())
	}
	return total
}

func sum(a, b store.Traffic) store.Traffic {
	return store.Traffic{
		IngressIn: a.IngressIn + b.IngressIn, IngressOut: a.IngressOut + b.IngressOut,
		EgressIn: a.EgressIn + b.EgressIn, EgressOut: a.EgressOut + b.EgressOut, Denied: a.Denied + b.Denied,
	}
}

// countedConn is a connection of the endpoint to a port of the guest.
type countedConn struct {
	net.Conn
	traffic *traffic
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.traffic.ingressOut.Add(uint64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.traffic.ingressIn.Add(uint64(n))
	return n, err
}

// CloseWrite passes on the end of one direction.
func (c countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
