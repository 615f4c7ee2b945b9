package endpoint

import (
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// someConn is a connection between two addresses.
type someConn struct {
	net.Conn
	from, to string
	closed   *atomic.Int64
}

func (c someConn) RemoteAddr() net.Addr        { return tcpAddr(c.from) }
func (c someConn) LocalAddr() net.Addr         { return tcpAddr(c.to) }
func (c someConn) Close() error                { c.closed.Add(1); return nil }
func (c someConn) Write(p []byte) (int, error) { return len(p), nil }
func tcpAddr(addr string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1))
}

// come is a client's connection to a VM's address; nil if it was refused.
func (l *lobby) come(from, to string) *clientConn {
	return l.enter(someConn{from: from, to: to, closed: new(atomic.Int64)})
}

func (c *clientConn) isClosed() bool { return c.Conn.(someConn).closed.Load() > 0 }

// busyNow has shown a token and waits for its response.
func busyNow(c *clientConn) *clientConn {
	c.changed(http.StateActive)
	c.showedToken()
	return c
}

func idleNow(c *clientConn) *clientConn {
	busyNow(c).changed(http.StateIdle)
	return c
}

func TestAFullLobbyMakesRoomByClosingWhatDoesNothing(t *testing.T) {
	l := newLobby(6)
	l.share, l.strangers = 6, 6
	come := func() *clientConn { return l.come("10.0.0.1", "127.64.0.1") }
	idle, busy, older, younger := idleNow(come()), busyNow(come()), come(), come()
	idleLater := idleNow(come())
	idle.changed(http.StateActive)
	idle.changed(http.StateIdle) // after idleLater
	younger.changed(http.StateActive)
	younger.changed(http.StateIdle) // a stranger stays one

	sixth := busyNow(come())
	require.NotNil(t, sixth)
	for _, next := range []*clientConn{older, younger, idleLater, idle} {
		require.False(t, next.isClosed())
		require.NotNil(t, busyNow(come()))
		require.True(t, next.isClosed())
	}
	require.Nil(t, come(), "all are busy")
	require.False(t, busy.isClosed() || sixth.isClosed())
	require.NoError(t, busy.Close())
	require.NoError(t, busy.Close())
	require.NotNil(t, come(), "one has left")
	require.Equal(t, 6, l.all.open)
}

func TestOneClientAtOneVMGetsItsShare(t *testing.T) {
	l := newLobby(8)
	l.strangers = 8
	for range 10 {
		require.NotNil(t, l.come("10.0.0.1", "127.64.0.1"), "it closes its own")
	}
	require.Equal(t, 4, l.all.open)
	other, third := l.come("10.0.0.1", "127.64.0.2"), l.come("10.0.0.2", "127.64.0.1")
	for range 4 {
		busyNow(l.come("10.0.0.1", "127.64.0.1"))
	}
	require.Nil(t, l.come("10.0.0.1", "127.64.0.1"))
	require.False(t, other.isClosed() || third.isClosed())

	require.Equal(t, network(netip.MustParseAddr("2001:db8::1")), network(netip.MustParseAddr("2001:db8::ffff")))
	require.NotEqual(t, network(netip.MustParseAddr("2001:db8::1")), network(netip.MustParseAddr("2001:db8:0:1::1")))
}

func TestStrangersHaveAQuarterOfTheRoom(t *testing.T) {
	l := newLobby(16)
	guest := idleNow(l.come("10.0.0.1", "127.64.0.1"))
	var strangers []*clientConn
	for i := range 8 {
		strangers = append(strangers, l.come("10.0.0.2", netip.AddrFrom4([4]byte{127, 64, 0, byte(i)}).String()))
	}
	for i, c := range strangers {
		require.Equal(t, i < 4, c.isClosed(), i)
	}
	require.False(t, guest.isClosed())
}

func TestALobbyCountsRightWhateverHappensAtOnce(t *testing.T) {
	l := newLobby(20)
	l.left = func(*clientConn) {}
	var group sync.WaitGroup
	var conns [8][]*clientConn
	for i := range conns {
		group.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 2000 {
				if c := l.come("10.0.0.1", []string{"127.64.0.1", "127.64.0.2", "127.64.0.3"}[r.IntN(3)]); c != nil {
					conns[i] = append(conns[i], c)
				}
				if len(conns[i]) == 0 {
					continue
				}
				at := r.IntN(len(conns[i]))
				switch c := conns[i][at]; r.IntN(4) {
				case 0:
					busyNow(c)
				case 1:
					idleNow(c)
				case 2:
					_ = c.Close()
				}
			}
		})
	}
	group.Wait()
	require.LessOrEqual(t, l.all.open, 20)
	open := 0
	for _, of := range l.pairs {
		open += of.open
		require.LessOrEqual(t, of.open, 10)
	}
	require.Equal(t, l.all.open, open)
	for _, some := range conns {
		for _, c := range some {
			_ = c.Close()
		}
	}
	require.Zero(t, l.all.open+l.all.idle.Len()+l.all.strangers.Len())
	require.Empty(t, l.pairs)
}

func TestHalfOfTheFilesAreForConnections(t *testing.T) {
	n := DefaultMaxConnections()
	require.GreaterOrEqual(t, n, leastConnections)
	require.LessOrEqual(t, n, mostConnections)
}
