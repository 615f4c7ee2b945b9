package microvm

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/dormouse-dev/dormouse/internal/netstack"
)

// network is a guest network with the registry mirror in it that a guest of that policy needs.
func (b *Builders) network(policy netstack.Policy) netstack.Config {
	network, mirror := b.m.cfg.Network, b.cfg.Mirror
	if policy.Sealed() {
		mirror = b.cfg.Local
	}
	if mirror != nil {
		network.Services = map[netip.AddrPort]netstack.Handler{mirrorAddr: serveHTTP(mirror)}
	}
	return network
}

// serveHTTP serves single connections of a guest as an HTTP server would.
func serveHTTP(handler http.Handler) netstack.Handler {
	return func(conn net.Conn) {
		listener := &oneConn{conn: conn, closed: make(chan struct{})}
		server := &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: 10 * time.Second,
			ConnState: func(_ net.Conn, state http.ConnState) {
				if state == http.StateClosed || state == http.StateHijacked {
					listener.Close()
				}
			},
		}
		_ = server.Serve(listener) // returns when the connection is closed
	}
}

// oneConn is a listener that accepts one connection and then waits for its end.
type oneConn struct {
	mu     sync.Mutex // guards conn
	conn   net.Conn   // nil once accepted
	once   sync.Once
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return net.TCPAddrFromAddrPort(mirrorAddr) }
