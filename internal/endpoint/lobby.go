package endpoint

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
)

// lobby bounds the connections that clients have open. Who comes when it is full takes the place of
// a connection that does nothing: the oldest that has not shown a good token yet, else the one that
// has been idle for longest. Only where all others are busy a new one is refused.
type lobby struct {
	max       int               // in total
	share     int               // from one client address to one endpoint address
	strangers int               // that have not shown a good token, TLS handshakes under way among them
	left      func(*clientConn) // called once for each that has been closed; may be nil

	mu    sync.Mutex // guards all below, and what clientConn says
	all   crowd
	pairs map[pair]*crowd
}

// pair is where a connection comes from and goes to: pressure on one VM's address leaves room at the
// others', and pressure from one client leaves room for the others.
type pair struct{ from, to netip.Addr }

// crowd is some connections.
type crowd struct {
	open      int
	strangers list.List // of *clientConn, oldest in front
	idle      list.List // of *clientConn that have shown a token, idle for longest in front
}

// clientConn is a client's TCP connection.
type clientConn struct {
	net.Conn
	lobby *lobby
	pair  pair
	known atomic.Bool // has shown a good token

	places [2]*list.Element // in a list of all's and of its pair's; nil while it is busy
	gone   bool

	closing sync.Once
	visits  visits
}

const (
	// leastConnections and mostConnections bound the default of Config.MaxConnections. An idle
	// connection takes about 40 KiB.
	leastConnections = 256
	mostConnections  = 20_000
	// tlsRefusal is an alert of TLS 1.2, as which versions are negotiated: fatal, internal error.
	tlsRefusal = "\x15\x03\x03\x00\x02\x02\x50"
)

// DefaultMaxConnections is half of the files this process may open: microVMs need some, too.
func DefaultMaxConnections() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return leastConnections
	}
	return int(min(max(files.Cur/2, leastConnections), mostConnections))
}

func newLobby(most int) *lobby {
	return &lobby{max: most, share: max(most/2, 1), strangers: max(most/4, 1), pairs: map[pair]*crowd{}}
}

// guard is a listener whose connections are in the lobby.
type guard struct {
	net.Listener
	lobby *lobby
}

func (g guard) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := g.lobby.enter(conn); c != nil {
			return c, nil
		}
		_, _ = conn.Write([]byte(tlsRefusal)) // fits into the empty buffer of a new connection
		_ = conn.Close()
	}
}

// enter makes room for a connection; nil if there is none.
func (l *lobby) enter(conn net.Conn) *clientConn {
	c := &clientConn{Conn: conn, lobby: l, pair: pair{network(addrOf(conn.RemoteAddr())), addrOf(conn.LocalAddr())}}
	victim, ok := l.place(c)
	if victim != nil {
		_ = victim.Close()
	}
	if !ok {
		return nil
	}
	return c
}

// network is what one client can choose its address from: a host of IPv6 has 64 bits of it.
func network(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64) // cannot fail
		return p.Addr()
	}
	return a
}

func (l *lobby) place(c *clientConn) (victim *clientConn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.pairs[c.pair]
	switch {
	case of != nil && of.open >= l.share:
		victim = of.idlest()
	case l.all.open >= l.max:
		victim = l.all.idlest()
	case l.all.strangers.Len() >= l.strangers:
		victim = l.all.strangers.Front().Value.(*clientConn)
	default:
		victim, ok = nil, true
	}
	if victim != nil {
		l.remove(victim)
		of, ok = l.pairs[c.pair], true // which may have been the victim's alone
	}
	if !ok {
		return nil, false
	}
	if of == nil {
		of = &crowd{}
		l.pairs[c.pair] = of
	}
	l.all.open++
	of.open++
	c.places = [2]*list.Element{l.all.strangers.PushBack(c), of.strangers.PushBack(c)}
	return victim, true
}

func (w *crowd) idlest() *clientConn {
	for _, of := range []*list.List{&w.strangers, &w.idle} {
		if front := of.Front(); front != nil {
			return front.Value.(*clientConn)
		}
	}
	return nil
}

// remove forgets a connection. The caller holds mu.
func (l *lobby) remove(c *clientConn) {
	if c.gone {
		return
	}
	c.gone = true
	l.busy(c)
	of := l.pairs[c.pair]
	l.all.open--
	if of.open--; of.open == 0 {
		delete(l.pairs, c.pair)
	}
}

// busy takes a connection off the lists of those that can be closed. The caller holds mu.
func (l *lobby) busy(c *clientConn) {
	if c.places[0] == nil {
		return
	}
	for i, w := range []*crowd{&l.all, l.pairs[c.pair]} {
		w.strangers.Remove(c.places[i]) // nothing happens in the list it is not in
		w.idle.Remove(c.places[i])
		c.places[i] = nil
	}
}

// showedToken tells that a request of the connection had a good token.
func (c *clientConn) showedToken() {
	if c == nil || c.known.Load() {
		return
	}
	c.lobby.mu.Lock()
	defer c.lobby.mu.Unlock()
	if !c.gone {
		c.lobby.busy(c)
		c.known.Store(true)
	}
}

// changed follows http.Server.ConnState.
func (c *clientConn) changed(state http.ConnState) {
	if !c.known.Load() {
		return // a stranger stays one, whatever it asks for
	}
	l := c.lobby
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.gone:
	case state == http.StateIdle && c.places[0] == nil:
		c.places = [2]*list.Element{l.all.idle.PushBack(c), l.pairs[c.pair].idle.PushBack(c)}
	case state == http.StateActive:
		l.busy(c)
	}
}

// Close also leaves the lobby.
func (c *clientConn) Close() error {
	c.closing.Do(func() {
		c.lobby.mu.Lock()
		c.lobby.remove(c)
		c.lobby.mu.Unlock()
		if c.lobby.left != nil {
			c.lobby.left(c)
		}
	})
	return c.Conn.Close()
}

type clientConnKey struct{}

// inLobby is http.Server.ConnContext.
func inLobby(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, clientConnKey{}, clientConnOf(conn))
}

func clientConnOf(conn net.Conn) *clientConn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*clientConn)
	return c
}

// connOf is the connection a request came by; nil if it did not come through a listener.
func connOf(ctx context.Context) *clientConn {
	c, _ := ctx.Value(clientConnKey{}).(*clientConn)
	return c
}

func stateChanged(conn net.Conn, state http.ConnState) {
	if c := clientConnOf(conn); c != nil {
		c.changed(state)
	}
}
