package endpoint

import (
	"errors"
	"net/netip"
	"strings"
)

// AddrPool is where address mode "ip" takes its addresses from: the quarter of 127/8 that neither
// 127.0.0.1 nor the addresses distributions put in /etc/hosts (127.0.1.1) or use for resolvers
// (127.0.0.53) lie in. Linux answers on all of 127/8 without set-up.
var AddrPool = netip.MustParsePrefix("127.64.0.0/10")

// ErrNoAddr means that every address of the pool is taken.
var ErrNoAddr = errors.New("no free endpoint address in " + AddrPool.String())

// NextAddr returns the first address after last that is not taken, starting over at the end of the
// pool. The zero last means the beginning. Going round, instead of taking the lowest free address,
// keeps a new VM from inheriting the cookies and cached pages a browser holds for a VM that ended.
// Addresses ending in .0 and .255 are left out: some clients take them for networks and broadcasts.
func NextAddr(last netip.Addr, taken func(netip.Addr) bool) (netip.Addr, error) {
	first := AddrPool.Addr()
	if !AddrPool.Contains(last) {
		last = first
	}
	for addr := last.Next(); ; addr = addr.Next() {
		if !AddrPool.Contains(addr) {
			addr = first
		}
		if host := addr.As4()[3]; host != 0 && host != 255 && !taken(addr) {
			return addr, nil
		}
		if addr == last {
			return netip.Addr{}, ErrNoAddr
		}
	}
}

// endpointID takes a VM's endpoint id out of the host of a request, <uuid>.domain with or without a
// port, in any case and with or without the dot of a whole name. The id comes back in lower case.
func endpointID(host, domain string) (id string, ok bool) {
	const length = len("00000000-0000-0000-0000-000000000000")
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) != length+1+len(domain) || host[length] != '.' || !strings.EqualFold(host[length+1:], domain) {
		return "", false
	}
	return strings.ToLower(host[:length]), true
}
