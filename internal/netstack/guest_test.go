package netstack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// patience bounds what a test waits for; it is never waited out when things work.
const patience = 20 * time.Second

// testGuest plays the VM: a TCP/IP stack of its own at the other end of the frame stream.
type testGuest struct {
	net    *stack.Stack
	link   *channel.Endpoint
	unplug func() // ends the frame stream, as QEMU does when it dies
}

// newGuest plugs a guest into one end of a frame stream.
func newGuest(t testing.TB, conn net.Conn) *testGuest {
	t.Helper()
	g := &testGuest{
		net: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
		}),
		link: channel.New(sendQueue, guest.MTU+header.EthernetMinimumSize, guestMAC),
	}
	require.Nil(t, g.net.CreateNIC(nic, ethernet.New(g.link)))
	require.Nil(t, g.net.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpipAddr(guestAddr), PrefixLen: guest.PrefixBits},
	}, stack.AddressProperties{}))
	subnet := tcpip.AddressWithPrefix{Address: tcpipAddr(guestAddr), PrefixLen: guest.PrefixBits}.Subnet()
	g.net.SetRouteTable([]tcpip.Route{
		{Destination: subnet, NIC: nic},
		{Destination: header.IPv4EmptySubnet, Gateway: tcpipAddr(gatewayAddr), NIC: nic},
	})
	g.plug(conn)
	t.Cleanup(func() {
		g.unplug()
		g.net.Destroy()
	})
	return g
}

// plug connects the guest to a frame stream, until unplug.
func (g *testGuest) plug(conn net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { g.send(ctx, conn) })
	running.Go(func() { g.receive(conn) })
	g.unplug = func() {
		cancel()
		conn.Close()
		running.Wait()
	}
}

func (g *testGuest) send(ctx context.Context, conn net.Conn) {
	for packet := g.link.ReadContext(ctx); packet != nil; packet = g.link.ReadContext(ctx) {
		_, err := conn.Write(appendFrame(nil, packet.AsSlices()...))
		packet.DecRef()
		if err != nil {
			return
		}
	}
}

func (g *testGuest) receive(conn net.Conn) {
	frames := newFrameReader(conn)
	for {
		frame, err := frames.next()
		if err != nil {
			return
		}
		packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(frame)})
		g.link.InjectInbound(0, packet)
		packet.DecRef()
	}
}

func (g *testGuest) listen(t testing.TB, port uint16) *gonet.TCPListener {
	t.Helper()
	l, err := gonet.ListenTCP(g.net, fullAddress(netip.AddrPortFrom(guestAddr, port)), ipv4.ProtocolNumber)
	require.NoError(t, err)
	t.Cleanup(l.Shutdown)
	return l
}

func (g *testGuest) dial(t testing.TB, to string) (*gonet.TCPConn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.net, fullAddress(netip.MustParseAddrPort(to)), ipv4.ProtocolNumber)
}

// echo answers every connection with what it sent, and ends when it ended.
func (g *testGuest) echo(t testing.TB, port uint16) {
	t.Helper()
	l := g.listen(t, port)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
				_ = c.(*gonet.TCPConn).CloseWrite()
			}()
		}
	}()
}

// newPair is a stack and its guest, taken down at the end of the test, after which nothing may run.
func newPair(t testing.TB, cfg Config) (*Stack, *testGuest) {
	t.Helper()
	before := runtime.NumGoroutine()
	ours, theirs := net.Pipe()
	if cfg.HostAddrs == nil {
		cfg.HostAddrs = func() ([]netip.Addr, error) { return nil, nil }
	}
	t.Cleanup(func() { requireGoroutines(t, before) })
	s, err := New(ours, cfg)
	require.NoError(t, err)
	g := newGuest(t, theirs)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, g
}

// requireGoroutines fails when more than so many goroutines stay.
func requireGoroutines(t testing.TB, most int) {
	t.Helper()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > most; runtime.Gosched() {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("goroutines outlive the stack:\n%s", stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func dialGuest(t testing.TB, s *Stack, port uint16) *conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := s.DialGuest(ctx, port)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*conn)
}
