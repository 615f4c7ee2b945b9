// Package netstack is the user-space network of one microVM: the daemon dials into the guest through it, and the guest reaches through it what its policy allows.
package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// nic is the only network card of a stack.
const nic tcpip.NICID = 1

// The guest is one hop and well under a millisecond away, so small windows fill the link, and they
// bound what a guest or its peers can make the daemon hold: twice tcpBuffer per connection.
const (
	tcpBuffer = 256 << 10 // bytes, each direction
	// Nothing strays on a link of one hop, so closed connections need not be remembered for
	// minutes, and a guest cannot pile them up.
	timeWait = 200 * time.Millisecond
	finWait2 = 5 * time.Second
)

// Stack is the network of one running VM.
type Stack struct {
	cfg      Config
	net      *stack.Stack
	link     *link
	services map[netip.AddrPort]Handler
	slots    chan struct{} // one token per connection of the guest
	queries  chan struct{} // one token per DNS question

	meter *Meter
	names *Names

	ctx    context.Context // ends when the frame stream does
	cancel context.CancelFunc
	done   chan struct{}
	err    error // why the stream ended; written before done is closed

	mu     sync.Mutex
	closed bool           // guarded by mu: no task begins any more
	tasks  sync.WaitGroup // Add only under mu
}

// Counters are totals, of frames since New and else of Config.Meter. Directions are as the guest sees them.
type Counters struct {
	// FramesIn and BytesIn are Ethernet frames towards the guest, FramesOut and BytesOut from it.
	FramesIn, FramesOut uint64
	BytesIn, BytesOut   uint64
	// EgressSent and EgressReceived are payload bytes of connections the guest made outwards.
	EgressSent, EgressReceived uint64
	// Denied counts refusals.
	Denied uint64
}

// New runs a stack over conn, QEMU's frame stream (-netdev stream), until Close or until the
// stream ends. It owns conn from here on, also when it fails.
func New(conn net.Conn, cfg Config) (*Stack, error) {
	cfg = cfg.withDefaults()
	for at := range cfg.Services {
		if !at.Addr().Is4() || at.Addr() == guestAddr || at == resolverPort {
			return nil, errors.Join(fmt.Errorf("a service of the microVM's network cannot have address %v", at), conn.Close())
		}
	}
	s := &Stack{
		cfg:      cfg,
		services: make(map[netip.AddrPort]Handler, len(cfg.Services)+1),
		slots:    make(chan struct{}, cfg.Limits.Connections),
		queries:  make(chan struct{}, cfg.Limits.Queries),
		done:     make(chan struct{}),
		meter:    cfg.Meter,
		names:    cfg.Names,
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	local := map[netip.Addr]bool{gatewayAddr: true, resolverAddr: true}
	for at, handler := range cfg.Services {
		local[at.Addr()] = true
		s.services[at] = handler
	}
	s.services[resolverPort] = s.serveDNSStream
	s.link = newLink(conn, local)
	names, err := s.assemble(local)
	if err != nil {
		s.cancel()
		return nil, errors.Join(fmt.Errorf("set up the microVM's network: %w", err), conn.Close())
	}
	s.start(func() { s.serveDNSPackets(names) })
	s.start(func() { s.link.writeFrames(s.ctx) })
	go s.run()
	return s, nil
}

// assemble makes the TCP/IP stack and returns its DNS socket.
func (s *Stack) assemble(local map[netip.Addr]bool) (*gonet.UDPConn, error) {
	s.net = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	steps := []tcpip.Error{
		s.net.SetTransportProtocolOption(tcp.ProtocolNumber, &tcpip.TCPReceiveBufferSizeRangeOption{
			Min: tcp.MinBufferSize, Default: tcpBuffer, Max: tcpBuffer}),
		s.net.SetTransportProtocolOption(tcp.ProtocolNumber, &tcpip.TCPSendBufferSizeRangeOption{
			Min: tcp.MinBufferSize, Default: tcpBuffer, Max: tcpBuffer}),
		s.net.SetTransportProtocolOption(tcp.ProtocolNumber, new(tcpip.TCPModerateReceiveBufferOption(false))),
		s.net.SetTransportProtocolOption(tcp.ProtocolNumber, new(tcpip.TCPTimeWaitTimeoutOption(timeWait))),
		s.net.SetTransportProtocolOption(tcp.ProtocolNumber, new(tcpip.TCPLingerTimeoutOption(finWait2))),
		s.net.CreateNIC(nic, ethernet.New(s.link)),
		// Any destination is ours to answer: the forwarder stands in for the world.
		s.net.SetPromiscuousMode(nic, true),
		s.net.SetSpoofing(nic, true),
		// No ARP before the first byte, and none that the guest could answer wrongly.
		s.net.AddStaticNeighbor(nic, ipv4.ProtocolNumber, tcpipAddr(guestAddr), guestMAC),
	}
	for a := range local {
		steps = append(steps, s.net.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol:          ipv4.ProtocolNumber,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpipAddr(a), PrefixLen: guest.PrefixBits},
		}, stack.AddressProperties{}))
	}
	for _, err := range steps {
		if err != nil {
			s.net.Destroy()
			return nil, errors.New(err.String())
		}
	}
	s.net.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	forwarder := tcp.NewForwarder(s.net, tcpBuffer, s.cfg.Limits.Connections, s.accept)
	s.net.SetTransportProtocolHandler(tcp.ProtocolNumber, forwarder.HandlePacket)

	at := fullAddress(resolverPort)
	names, err := gonet.DialUDP(s.net, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		s.net.Destroy()
		return nil, fmt.Errorf("open the DNS socket: %w", err)
	}
	return names, nil
}
