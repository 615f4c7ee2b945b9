package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Mode is how a client's connection names the VM it is for.
type Mode string

// The modes. Tokens, ports and everything behind the door are the same in both.
const (
	// ModeAuto is ModeIP on a loopback listener, else ModeDomain.
	ModeAuto Mode = "auto"
	// ModeIP gives every VM an address of AddrPool: any client on this machine works, without DNS.
	ModeIP Mode = "ip"
	// ModeDomain gives every VM a host name, its endpoint id below the domain, on one listener.
	ModeDomain Mode = "domain"
)

var (
	errMode          = errors.New("it is auto, ip or domain")
	errNotOnLoopback = errors.New("the addresses of mode ip are in " + AddrPool.String() + ", which only this machine reaches: it needs a listener on loopback")
)

// Resolve decides what a mode means on a listener. It refuses what cannot be.
func (m Mode) Resolve(listen string) (Mode, error) {
	if listen == "" {
		listen = DefaultListen
	}
	switch m {
	case ModeDomain:
		return m, nil
	case ModeAuto, ModeIP, "":
	default:
		return "", fmt.Errorf("%q is no mode: %w", m, errMode)
	}
	addr, err := net.ResolveTCPAddr("tcp", listen)
	switch {
	case err != nil:
		return "", fmt.Errorf("find the listener's address: %w", err)
	case addr.AddrPort().Addr().Unmap().IsLoopback():
		return ModeIP, nil
	case m == ModeIP:
		return "", errNotOnLoopback
	}
	return ModeDomain, nil
}

// NextAddr is the package's NextAddr for a manager of microVMs, or nil where none gets an address.
func (m Mode) NextAddr() func(last netip.Addr, taken func(netip.Addr) bool) (netip.Addr, error) {
	if m == ModeDomain {
		return nil
	}
	return NextAddr
}
