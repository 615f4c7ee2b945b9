package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// setUpNetwork gives eth0 the fixed addresses of the protocol. The neighbours are static: after a
// restore the first answer would else wait for ARP.
func setUpNetwork() error {
	// IPv4 only: router solicitations would just dirty memory.
	err := os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	gatewayMAC, err := net.ParseMAC(guest.GatewayMAC)
	if err != nil {
		return err
	}
	self, gateway, resolver := netip.MustParseAddr(guest.GuestIP), netip.MustParseAddr(guest.GatewayIP), netip.MustParseAddr(guest.ResolverIP)

	socket, err := openRouteSocket()
	if err != nil {
		return err
	}
	defer socket.close()
	for _, step := range []struct {
		what    string
		message []byte
	}{
		{"lo up", linkUp(lo.Index)},
		{"address", addAddress(eth0.Index, self, guest.PrefixBits)},
		{"eth0's frame size", setMTU(eth0.Index, guest.MTU)},
		{"eth0 up", linkUp(eth0.Index)},
		{"default route", addDefaultRoute(eth0.Index, gateway)},
		{"gateway neighbour", addNeighbour(eth0.Index, gateway, gatewayMAC)},
		{"resolver neighbour", addNeighbour(eth0.Index, resolver, gatewayMAC)},
	} {
		if err := socket.do(step.message); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// routeSocket speaks rtnetlink(7), as much of it as five requests need.
type routeSocket int

func openRouteSocket() (routeSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return routeSocket(fd), nil
}

func (s routeSocket) close() { unix.Close(int(s)) }

// do sends one request and waits for its acknowledgement.
func (s routeSocket) do(request []byte) error {
	if err := unix.Sendto(int(s), request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var answer [4096]byte
	n, _, err := unix.Recvfrom(int(s), answer[:], 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("unexpected netlink answer")
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

func linkUp(index int) []byte {
	body := []byte{unix.AF_UNSPEC, 0, 0, 0} // struct ifinfomsg
	body = appendUint32(body, uint32(index), unix.IFF_UP, unix.IFF_UP)
	return routeRequest(unix.RTM_NEWLINK, 0, body)
}

func setMTU(index int, mtu uint32) []byte {
	body := []byte{unix.AF_UNSPEC, 0, 0, 0} // struct ifinfomsg
	body = appendUint32(body, uint32(index), 0, 0)
	body = appendAttribute(body, unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, mtu))
	return routeRequest(unix.RTM_NEWLINK, 0, body)
}

func addAddress(index int, ip netip.Addr, bits byte) []byte {
	body := []byte{unix.AF_INET, bits, 0, unix.RT_SCOPE_UNIVERSE} // struct ifaddrmsg
	body = appendUint32(body, uint32(index))
	body = appendAttribute(body, unix.IFA_LOCAL, ip.AsSlice())
	return routeRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
}

func addDefaultRoute(index int, gateway netip.Addr) []byte {
	body := []byte{unix.AF_INET, 0, 0, 0, // struct rtmsg
		unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	body = appendAttribute(body, unix.RTA_GATEWAY, gateway.AsSlice())
	body = appendAttribute(body, unix.RTA_OIF, appendUint32(nil, uint32(index)))
	return routeRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
}

func addNeighbour(index int, ip netip.Addr, mac net.HardwareAddr) []byte {
	body := []byte{unix.AF_INET, 0, 0, 0} // struct ndmsg
	body = appendUint32(body, uint32(index))
	body = binary.NativeEndian.AppendUint16(body, unix.NUD_PERMANENT)
	body = append(body, 0, 0)
	body = appendAttribute(body, unix.NDA_DST, ip.AsSlice())
	body = appendAttribute(body, unix.NDA_LLADDR, mac)
	return routeRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, body)
}

// routeRequest puts the netlink header before a message.
func routeRequest(kind, flags uint16, body []byte) []byte {
	request := appendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	request = binary.NativeEndian.AppendUint16(request, kind)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	request = appendUint32(request, 1, 0) // sequence, port
	return append(request, body...)
}

// appendAttribute adds one attribute, padded to four bytes.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func appendUint32(b []byte, values ...uint32) []byte {
	for _, v := range values {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}
