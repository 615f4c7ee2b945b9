package netstack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// outside is a server on the host's loopback that stands in for the internet: whatever address the
// stack dials, it gets there.
type outside struct {
	net.Listener
	dialled chan string
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return &outside{Listener: l, dialled: make(chan string, 100)}
}

func (o *outside) dial(ctx context.Context, network, address string) (net.Conn, error) {
	o.dialled <- address
	return new(net.Dialer).DialContext(ctx, network, o.Addr().String())
}

// echoOnce serves one connection until its end.
func (o *outside) echoOnce() {
	c, err := o.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.Copy(c, c)
}

func TestTheGuestReachesWhatThePolicyAllows(t *testing.T) {
	world := newOutside(t)
	s, g := newPair(t, Config{Policy: Policy{Internet: true}, Dial: world.dial})
	go world.echoOnce()
	c, err := g.dial(t, "93.184.216.34:443")
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, "93.184.216.34:443", <-world.dialled)

	sent := make([]byte, 1<<20)
	_, _ = rand.Read(sent)
	go func() {
		_, _ = c.Write(sent)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got))
	require.Equal(t, uint64(len(sent)), s.Counters().EgressSent)
	require.Equal(t, uint64(len(sent)), s.Counters().EgressReceived)
}

func TestRefusedDestinationsGetARSTAndAreReported(t *testing.T) {
	host := netip.MustParseAddr("93.184.216.34")
	denials := make(chan Denial, 1)
	s, g := newPair(t, Config{
		Policy:    Policy{Internet: true, AllowPrivate: prefixes("192.168.0.0/16")},
		HostAddrs: func() ([]netip.Addr, error) { return []netip.Addr{host}, nil },
		Denied:    func(d Denial) { denials <- d },
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("the policy let something through")
		},
	})
	for to, rule := range map[string]Rule{
		"169.254.169.254:80": RuleLinkLocal,
		"10.0.0.1:22":        RulePrivate,
		"10.0.2.2:8080":      RuleGuestNet,
		"93.184.216.34:7070": RuleHost,
	} {
		_, err := g.dial(t, to)
		require.ErrorContains(t, err, "refused", to)
		require.Equal(t, Denial{Destination: netip.MustParseAddrPort(to), Rule: rule}, <-denials)
	}
	require.Equal(t, uint64(4), s.Counters().Denied)
}

func TestNothingGoesOutWhenTheHostsAddressesAreUnknown(t *testing.T) {
	_, g := newPair(t, Config{
		Policy:    Policy{Internet: true},
		HostAddrs: func() ([]netip.Addr, error) { return nil, errors.New("netlink is down") },
	})
	_, err := g.dial(t, "93.184.216.34:80")
	require.ErrorContains(t, err, "refused")
}

func TestADeadDestinationIsRefusedToo(t *testing.T) {
	_, g := newPair(t, Config{
		Policy: Policy{Internet: true},
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no route")
		},
	})
	_, err := g.dial(t, "93.184.216.34:80")
	require.ErrorContains(t, err, "refused")
}

func TestServicesAreReachableWhateverThePolicySays(t *testing.T) {
	s, g := newPair(t, Config{
		Services: map[netip.AddrPort]Handler{
			netip.MustParseAddrPort("10.0.2.4:5000"): func(c net.Conn) {
				defer c.Close()
				_, _ = c.Write([]byte("registry"))
			},
			netip.MustParseAddrPort("169.254.169.254:80"): func(c net.Conn) {
				defer c.Close()
				_, _ = c.Write([]byte("metadata"))
			},
		},
	})
	for at, want := range map[string]string{"10.0.2.4:5000": "registry", "169.254.169.254:80": "metadata"} {
		c, err := g.dial(t, at)
		require.NoError(t, err)
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		c.Close()
	}
	require.Eventually(t, func() bool { return len(s.slots) == 0 }, patience, time.Millisecond, "finished connections are forgotten")
	_, err := g.dial(t, "10.0.2.4:5001")
	require.ErrorContains(t, err, "refused", "only the service's own port is open")
}

func TestAResetFromOutsideReachesTheGuestAsAReset(t *testing.T) {
	world := newOutside(t)
	_, g := newPair(t, Config{Policy: Policy{Internet: true}, Dial: world.dial})
	c, err := g.dial(t, "93.184.216.34:80")
	require.NoError(t, err)
	defer c.Close()
	peer, err := world.Accept()
	require.NoError(t, err)
	require.NoError(t, peer.(*net.TCPConn).SetLinger(0))
	require.NoError(t, peer.Close())
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, io.EOF, "a cut stream must not look complete")
}

func TestConnectionsBeyondTheLimitAreRefusedAndComeBack(t *testing.T) {
	world := newOutside(t)
	s, g := newPair(t, Config{Policy: Policy{Internet: true}, Dial: world.dial, Limits: Limits{Connections: 2}})
	var open []*gonet.TCPConn
	for range 2 {
		c, err := g.dial(t, "93.184.216.34:80")
		require.NoError(t, err)
		open = append(open, c)
	}
	_, err := g.dial(t, "93.184.216.34:80")
	require.Error(t, err)
	require.Equal(t, uint64(1), s.Counters().Denied)
	for _, c := range open {
		peer, err := world.Accept()
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, peer.Close())
	}
	require.Eventually(t, func() bool { return len(s.slots) == 0 }, patience, time.Millisecond)
	c, err := g.dial(t, "93.184.216.34:80")
	require.NoError(t, err)
	c.Close()
}

// The guest opens connections to a host that never answers, each from another port, and none is ever
// finished.
func TestASYNFloodIsBounded(t *testing.T) {
	const connections = 16
	before := runtime.NumGoroutine()
	ours, theirs := net.Pipe()
	dialled := make(chan struct{}, 2*connections)
	s, err := New(ours, Config{
		Policy: Policy{Internet: true}, HostAddrs: noHost, Limits: Limits{Connections: connections},
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dialled <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	for i := range 5000 {
		_, err := theirs.Write(appendFrame(nil, synFrom(uint16(1024+i), "203.0.113.5:80")))
		require.NoError(t, err)
	}
	for range connections {
		<-dialled
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before+2*connections+20)
	require.NoError(t, s.Close())
	require.Empty(t, dialled, "no more dials than connections")
	theirs.Close()
	requireGoroutines(t, before)
}
