package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func noHost() ([]netip.Addr, error) { return nil, nil }

func refuseAll(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }

// ipFrame is a frame from the guest's card to the gateway's.
func ipFrame(src, dst string, protocol tcpip.TransportProtocolNumber, segment []byte) []byte {
	frame := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize, 128)
	header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: guestMAC, DstAddr: gatewayMAC, Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + len(segment)), TTL: 64, Protocol: uint8(protocol),
		SrcAddr: tcpipAddr(netip.MustParseAddr(src)), DstAddr: tcpipAddr(netip.MustParseAddr(dst)),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	return append(frame, segment...)
}

func synTo(to string) []byte { return synFrom(40000, to) }

func synFrom(port uint16, to string) []byte {
	dst := netip.MustParseAddrPort(to)
	tcp := make(header.TCP, header.TCPMinimumSize)
	tcp.Encode(&header.TCPFields{SrcPort: port, DstPort: dst.Port(), SeqNum: 1, DataOffset: header.TCPMinimumSize,
		Flags: header.TCPFlagSyn, WindowSize: 1000})
	pseudo := header.PseudoHeaderChecksum(header.TCPProtocolNumber, tcpipAddr(guestAddr), tcpipAddr(dst.Addr()), header.TCPMinimumSize)
	tcp.SetChecksum(^checksum.Checksum(tcp, pseudo))
	return ipFrame("10.0.2.15", dst.Addr().String(), header.TCPProtocolNumber, tcp)
}

func udpTo(to string, payload []byte) []byte {
	dst := netip.MustParseAddrPort(to)
	udp := make(header.UDP, header.UDPMinimumSize)
	udp.Encode(&header.UDPFields{SrcPort: 40000, DstPort: dst.Port(), Length: uint16(header.UDPMinimumSize + len(payload))})
	return ipFrame("10.0.2.15", dst.Addr().String(), header.UDPProtocolNumber, append(udp, payload...))
}

func dnsQuestionFrame() []byte {
	query, err := new(dns.Msg).SetQuestion("debian.example.", dns.TypeA).Pack()
	if err != nil {
		panic(err)
	}
	return udpTo("10.0.2.3:53", query)
}

func pingTo(to string) []byte {
	icmp := make(header.ICMPv4, header.ICMPv4MinimumSize)
	icmp.SetType(header.ICMPv4Echo)
	icmp.SetChecksum(header.ICMPv4Checksum(icmp, 0))
	return ipFrame("10.0.2.15", to, header.ICMPv4ProtocolNumber, icmp)
}

func arpRequestFor(target string) []byte {
	frame := make([]byte, header.EthernetMinimumSize+header.ARPSize)
	header.Ethernet(frame).Encode(&header.EthernetFields{
		SrcAddr: guestMAC, DstAddr: header.EthernetBroadcastAddress, Type: header.ARPProtocolNumber})
	arp := header.ARP(frame[header.EthernetMinimumSize:])
	arp.SetIPv4OverEthernet()
	arp.SetOp(header.ARPRequest)
	copy(arp.HardwareAddressSender(), guestMAC)
	copy(arp.ProtocolAddressSender(), guestAddr.AsSlice())
	copy(arp.ProtocolAddressTarget(), netip.MustParseAddr(target).AsSlice())
	return frame
}

// dressUp gives a frame of noise the addresses of a frame that is let in.
func dressUp(frame []byte) {
	header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: guestMAC, DstAddr: gatewayMAC, Type: header.IPv4ProtocolNumber})
	payload := frame[header.EthernetMinimumSize:]
	if len(payload) < header.IPv4MinimumSize {
		return
	}
	ip := header.IPv4(payload)
	dst := ip.DestinationAddress()
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(payload)), TTL: 64, Protocol: ip.Protocol(),
		SrcAddr: tcpipAddr(guestAddr), DstAddr: dst})
	ip.SetChecksum(^ip.CalculateChecksum())
}

// changed returns a copy of a frame with one byte replaced.
func changed(frame []byte, at int, value byte) []byte {
	out := append([]byte(nil), frame...)
	out[at] = value
	return out
}

func TestOnlyWhatIsNeededPassesTheDoor(t *testing.T) {
	const ip = header.EthernetMinimumSize
	d := door{local: map[netip.Addr]bool{gatewayAddr: true, resolverAddr: true}}
	syn := synTo("203.0.113.5:80")
	arp := arpRequestFor("10.0.2.2")
	tests := []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"TCP to anywhere", syn, true},
		{"TCP to an address only the policy refuses", synTo("127.0.0.1:80"), true},
		{"DNS question", dnsQuestionFrame(), true},
		{"ping of the gateway", pingTo("10.0.2.2"), true},
		{"ARP for the gateway", arp, true},
		{"ARP for the resolver", arpRequestFor("10.0.2.3"), true},

		{"nothing", nil, false},
		{"only an Ethernet header", syn[:ip], false},
		{"half an IP header", syn[:ip+10], false},
		{"cut TCP header", syn[:len(syn)-1], false},
		{"from another card", changed(syn, 6, 0xaa), false},
		{"to another card", changed(syn, 0, 0xaa), false},
		{"from another address", ipFrame("10.0.2.16", "203.0.113.5", header.TCPProtocolNumber, make([]byte, 20)), false},
		{"to itself", synTo("10.0.2.15:80"), false},
		{"IPv6", changed(changed(syn, 12, 0x86), 13, 0xdd), false},
		{"VLAN tag", changed(syn, 12, 0x81), false},
		{"first fragment", changed(syn, ip+6, 0x20), false},
		{"later fragment", changed(syn, ip+7, 1), false},
		{"IP options", changed(syn, ip, 0x46), false},
		{"UDP elsewhere", udpTo("203.0.113.5:443", nil), false},
		{"UDP to another port of the resolver", udpTo("10.0.2.3:54", nil), false},
		{"DNS to another resolver", udpTo("8.8.8.8:53", nil), false},
		{"ping of the world", pingTo("203.0.113.5"), false},
		{"other ICMP to the gateway", changed(pingTo("10.0.2.2"), ip+header.IPv4MinimumSize, byte(header.ICMPv4Redirect)), false},
		{"SCTP", ipFrame("10.0.2.15", "203.0.113.5", 132, make([]byte, 20)), false},
		{"ARP for a stranger", arpRequestFor("10.0.2.77"), false},
		{"ARP announcement of the gateway's address", changed(arp, ip+17, 2), false},
		{"ARP reply", changed(arp, ip+7, 2), false},
		{"cut ARP", arp[:len(arp)-1], false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, ok := d.admit(test.frame)
			require.Equal(t, test.want, ok)
		})
	}
}

func FuzzDoor(f *testing.F) {
	f.Add(synTo("203.0.113.5:80"))
	f.Add(arpRequestFor("10.0.2.2"))
	f.Add(dnsQuestionFrame())
	d := door{local: map[netip.Addr]bool{gatewayAddr: true, resolverAddr: true}}
	f.Fuzz(func(t *testing.T, frame []byte) {
		protocol, ok := d.admit(frame)
		if ok && protocol == header.IPv4ProtocolNumber {
			ip := header.IPv4(frame[header.EthernetMinimumSize:])
			require.Equal(t, tcpipAddr(guestAddr), ip.SourceAddress())
			require.False(t, ip.More())
		}
	})
}
