package netstack

import (
	"net/netip"
	"slices"
	"strings"
)

// Network is one named network that a guest may go out into. It never changes once in use.
type Network struct {
	Name     string
	Internet bool // all public addresses
	Allow    []Entry
	Deny     []Entry // exceptions from Internet and Allow of this network
	// Resolver answers questions for names of this network; nil means Config.Resolver.
	Resolver Resolver
}

// Entry is one line of a network's rules: all members that are given must fit.
type Entry struct {
	// Ranges hold the destination. A range opens private addresses only if it lies within one of
	// the private ranges: 0.0.0.0/0 is the public internet and no more.
	Ranges []netip.Prefix
	// Hosts are names in lower case, "*.example.com" for all names below one. The destination must
	// have come with the answer to a question for such a name, and what is sent there first must
	// name one too. Without Ranges that opens public addresses only.
	Hosts []string
	Ports []Ports // none means all
	// Opaque connections are not looked into: their name is known from DNS alone.
	Opaque bool
}

// Ports is a range of TCP ports, both ends included.
type Ports struct{ First, Last uint16 }

// verdict is what becomes of a connection.
type verdict struct {
	rule    Rule
	network string // whose Deny it was
	// named tells that it is allowed only for the names that networks allow: its first bytes must
	// say which. Its rule is allowed.
	named bool
}

// fitsPort tells whether an entry is about a port.
func (e Entry) fitsPort(port uint16) bool {
	return len(e.Ports) == 0 || slices.ContainsFunc(e.Ports, func(p Ports) bool { return p.First <= port && port <= p.Last })
}

// holds tells whether an entry is about an address, as far as its ranges go.
func (e Entry) holds(a netip.Addr) bool {
	if len(e.Ranges) == 0 {
		return !within(private, a)
	}
	return slices.ContainsFunc(e.Ranges, func(r netip.Prefix) bool {
		return r.Contains(a) && (!within(private, a) || lowers(r))
	})
}

// lowers tells whether a range lies within one of the private ones.
func lowers(r netip.Prefix) bool {
	return slices.ContainsFunc(private, func(p netip.Prefix) bool { return p.Bits() <= r.Bits() && p.Contains(r.Addr()) })
}

// fitsName tells whether an entry names a host.
func (e Entry) fitsName(name string) bool {
	return slices.ContainsFunc(e.Hosts, func(pattern string) bool { return matches(pattern, name) })
}

// matches compares a name in lower case with a pattern. "*.example.com" is not example.com itself.
func matches(pattern, name string) bool {
	if below, ok := strings.CutPrefix(pattern, "*"); ok {
		return len(name) > len(below) && strings.HasSuffix(name, below)
	}
	return pattern == name
}

// denies tells whether an exception of the network is about a destination, whatever that is called.
func (n *Network) denies(to netip.AddrPort) bool {
	return slices.ContainsFunc(n.Deny, func(e Entry) bool {
		return len(e.Hosts) == 0 && e.fitsPort(to.Port()) && (len(e.Ranges) == 0 || within(e.Ranges, to.Addr()))
	})
}

// deniesName tells whether an exception of the network is about a name on a port; port 0 asks for
// all ports.
func (n *Network) deniesName(name string, port uint16) bool {
	return slices.ContainsFunc(n.Deny, func(e Entry) bool {
		return e.fitsName(name) && (len(e.Ports) == 0 || port != 0 && e.fitsPort(port))
	})
}

// check judges a destination that is not one of those nobody reaches. names are what the guest was
// told that the address is the address of.
func (n *Network) check(to netip.AddrPort, names []string) (v verdict, fits bool) {
	if n.denies(to) {
		return verdict{rule: RuleDenied, network: n.Name}, true
	}
	if n.Internet && !within(private, to.Addr()) {
		return verdict{}, true
	}
	for _, e := range n.Allow {
		if !e.fitsPort(to.Port()) || !e.holds(to.Addr()) {
			continue
		}
		if len(e.Hosts) == 0 {
			return verdict{}, true
		}
		if !slices.ContainsFunc(names, func(name string) bool { return e.fitsName(name) && !n.deniesName(name, to.Port()) }) {
			continue
		}
		if e.Opaque {
			return verdict{}, true
		}
		v, fits = verdict{named: true}, true // a later entry may ask for less
	}
	return v, fits
}

// admits tells whether a connection to a destination that check let through may go on to a host of
// that name.
func (n *Network) admits(name string, to netip.AddrPort) bool {
	return !n.denies(to) && !n.deniesName(name, to.Port()) && slices.ContainsFunc(n.Allow, func(e Entry) bool {
		return e.fitsPort(to.Port()) && e.holds(to.Addr()) && e.fitsName(name)
	})
}

// answers tells whether the network has a name resolved: those of its entries, or any if none of its
// entries names hosts.
func (n *Network) answers(name string) bool {
	if n.deniesName(name, 0) {
		return false
	}
	return n.anyName() || slices.ContainsFunc(n.Allow, func(e Entry) bool { return e.fitsName(name) })
}

func (n *Network) anyName() bool {
	opens := n.Internet || len(n.Allow) > 0
	return opens && (n.Internet || !slices.ContainsFunc(n.Allow, func(e Entry) bool { return len(e.Hosts) > 0 }))
}

// reaches tells whether an address of those names is open on some port.
func (n *Network) reaches(a netip.Addr, names []string) bool {
	everywhere := func(e Entry) bool {
		return len(e.Ports) == 0 && len(e.Hosts) == 0 && (len(e.Ranges) == 0 || within(e.Ranges, a))
	}
	if slices.ContainsFunc(n.Deny, everywhere) {
		return false
	}
	return n.Internet && !within(private, a) || slices.ContainsFunc(n.Allow, func(e Entry) bool {
		return e.holds(a) && (len(e.Hosts) == 0 || slices.ContainsFunc(names, e.fitsName))
	})
}
