package netstack

import (
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// door decides which frames of the guest reach the TCP/IP stack at all. What is not needed stays
// out: other MACs and source addresses, IPv6, fragments, IP options, UDP other than DNS, pings of
// anything but the gateway.
type door struct {
	local map[netip.Addr]bool // addresses that live inside the stack
}

var (
	guestAddr    = netip.MustParseAddr(guest.GuestIP)
	gatewayAddr  = netip.MustParseAddr(guest.GatewayIP)
	resolverAddr = netip.MustParseAddr(guest.ResolverIP)
	resolverPort = netip.AddrPortFrom(resolverAddr, 53)

	guestMAC   = mustMAC(guest.GuestMAC)
	gatewayMAC = mustMAC(guest.GatewayMAC)
)

func mustMAC(s string) tcpip.LinkAddress {
	mac, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return tcpip.LinkAddress(mac)
}

// admit says whether a frame may go in, and as what.
func (d *door) admit(frame []byte) (tcpip.NetworkProtocolNumber, bool) {
	if len(frame) < header.EthernetMinimumSize {
		return 0, false
	}
	eth := header.Ethernet(frame)
	to := eth.DestinationAddress()
	if eth.SourceAddress() != guestMAC || (to != gatewayMAC && to != header.EthernetBroadcastAddress) {
		return 0, false
	}
	payload := frame[header.EthernetMinimumSize:]
	switch eth.Type() {
	case header.ARPProtocolNumber:
		return header.ARPProtocolNumber, d.admitARP(payload)
	case header.IPv4ProtocolNumber:
		return header.IPv4ProtocolNumber, to == gatewayMAC && d.admitIPv4(payload)
	}
	return 0, false
}

// admitARP lets the guest ask for addresses of the stack. It cannot announce anything: the guest's
// own entry is static.
func (d *door) admitARP(payload []byte) bool {
	arp := header.ARP(payload)
	if len(payload) < header.ARPSize || !arp.IsValid() || arp.Op() != header.ARPRequest {
		return false
	}
	return string(arp.HardwareAddressSender()) == string(guestMAC) &&
		address(arp.ProtocolAddressSender()) == guestAddr &&
		d.local[address(arp.ProtocolAddressTarget())]
}

func (d *door) admitIPv4(payload []byte) bool {
	ip := header.IPv4(payload)
	if len(payload) < header.IPv4MinimumSize || !ip.IsValid(len(payload)) || int(ip.HeaderLength()) != header.IPv4MinimumSize {
		return false
	}
	if ip.More() || ip.FragmentOffset() != 0 {
		return false
	}
	src, dst := address(ip.SourceAddressSlice()), address(ip.DestinationAddressSlice())
	if src != guestAddr || dst == guestAddr {
		return false
	}
	segment := ip.Payload()
	switch ip.TransportProtocol() {
	case header.TCPProtocolNumber:
		return len(segment) >= header.TCPMinimumSize
	case header.UDPProtocolNumber:
		return len(segment) >= header.UDPMinimumSize && netip.AddrPortFrom(dst, header.UDP(segment).DestinationPort()) == resolverPort
	case header.ICMPv4ProtocolNumber:
		return len(segment) >= header.ICMPv4MinimumSize && dst == gatewayAddr && header.ICMPv4(segment).Type() == header.ICMPv4Echo
	}
	return false
}

// address reads 4 bytes of a packet.
func address(raw []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(raw)
	return a
}
