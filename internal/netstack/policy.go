package netstack

import (
	"net/netip"
	"slices"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// Policy is what a guest may reach: what any of its members allows. The zero value is nothing. No
// member opens loopback, link-local, multicast, the guest's own network or the host itself.
type Policy struct {
	// Internet allows public addresses.
	Internet bool
	// AllowPrivate lists private, carrier-grade and unique-local ranges the guest may reach.
	AllowPrivate []netip.Prefix
	// Networks are named networks with rules of their own.
	Networks []*Network
}

// Rule names why a destination was refused, in the VM's events.
type Rule string

// Rules in the order they are checked; allowed is none of them.
const (
	allowed         Rule = ""
	RuleTranslated  Rule = "translated"    // an IPv6 address that carries an IPv4 one: the IPv4 rules would not see it
	RuleUnspecified Rule = "unspecified"   // 0.0.0.0/8: a host dialling it reaches itself
	RuleLoopback    Rule = "loopback"      //
	RuleLinkLocal   Rule = "link-local"    // cloud metadata services live there
	RuleMulticast   Rule = "multicast"     //
	RuleReserved    Rule = "reserved"      // 240.0.0.0/4 with the broadcast address, 192.0.0.0/24
	RuleGuestNet    Rule = "guest-network" // the VM's own network, where only the stack's services exist
	RuleHost        Rule = "host-address"  // an address of the host: services bound to 0.0.0.0 are not for guests
	RuleDenied      Rule = "denied"        // a Deny of a network is about it
	RulePrivate     Rule = "private"       // nothing opens the private range that holds it
	RuleNotListed   Rule = "not-listed"    // public, and no Allow of a network is about it
	RuleNoEgress    Rule = "no-egress"     // the policy has neither Internet nor a network
	RuleNoName      Rule = "no-name"       // it may be reached by a name only, and none was sent
	RuleOtherName   Rule = "other-name"    // the name that was sent is none of those allowed
	RuleTooMany     Rule = "too-many"      // Limits.Connections reached, the destination was not judged
)

// The ranges come from the IANA special-purpose registries. Documentation ranges (192.0.2.0/24,
// 198.51.100.0/24, 203.0.113.0/24) are left out on purpose: test networks really use them.
var (
	unspecified = prefixes("0.0.0.0/8", "::/128")
	loopback    = prefixes("127.0.0.0/8", "::1/128")
	linkLocal   = prefixes("169.254.0.0/16", "fe80::/10")
	multicast   = prefixes("224.0.0.0/4", "ff00::/8")
	reserved    = prefixes("240.0.0.0/4", "192.0.0.0/24", "100::/64")
	private     = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15",
		"fc00::/7", "fec0::/10")
	// IPv4-mapped, IPv4-compatible, NAT64 (two prefixes), 6to4, Teredo.
	translated = prefixes("::ffff:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")

	guestNet = netip.PrefixFrom(netip.MustParseAddr(guest.GatewayIP), guest.PrefixBits).Masked()
)

// check judges a destination that is about to be dialled. Whatever a DNS answer said, the rules are
// asked about the address itself; names are those it was given as an answer for, and can only add
// to what it may be. host lists the host's own addresses.
func (p Policy) check(to netip.AddrPort, names []string, host []netip.Addr) verdict {
	if rule := never(to.Addr(), host); rule != allowed {
		return verdict{rule: rule}
	}
	if within(private, to.Addr()) {
		if within(p.AllowPrivate, to.Addr()) {
			return verdict{}
		}
	} else if p.Internet {
		return verdict{}
	}
	refused := verdict{rule: p.unlisted(to.Addr())}
	var byName bool
	for _, n := range p.Networks {
		switch v, fits := n.check(to, names); {
		case !fits:
		case v.rule != allowed:
			refused = v
		case v.named:
			byName = true
		default:
			return verdict{}
		}
	}
	if byName {
		return verdict{named: true}
	}
	return refused
}

// Sealed tells whether the guest reaches nothing at all.
func (p Policy) Sealed() bool { return !p.Internet && len(p.AllowPrivate) == 0 && len(p.Networks) == 0 }

// never judges what no policy opens.
func never(dst netip.Addr, host []netip.Addr) Rule {
	switch {
	case !dst.IsValid() || within(unspecified, dst):
		return RuleUnspecified
	case within(loopback, dst):
		return RuleLoopback
	case within(translated, dst):
		return RuleTranslated
	case within(linkLocal, dst):
		return RuleLinkLocal
	case within(multicast, dst):
		return RuleMulticast
	case within(reserved, dst):
		return RuleReserved
	case guestNet.Contains(dst):
		return RuleGuestNet
	case slices.ContainsFunc(host, func(own netip.Addr) bool { return own.Unmap().WithZone("") == dst }):
		return RuleHost
	}
	return allowed
}

// unlisted is why an address is refused that nothing is about.
func (p Policy) unlisted(dst netip.Addr) Rule {
	switch {
	case within(private, dst):
		return RulePrivate
	case len(p.Networks) > 0:
		return RuleNotListed
	}
	return RuleNoEgress
}

// admits tells whether a connection that is allowed for names only may go on to a host of that name.
func (p Policy) admits(name string, to netip.AddrPort) bool {
	return slices.ContainsFunc(p.Networks, func(n *Network) bool { return n.admits(name, to) })
}

// resolver is who answers a question for a name in lower case, without its last dot; byName tells
// that the answer may open addresses. false: nobody may. A network that names it comes first, then
// whoever answers any name.
func (p Policy) resolver(name string, otherwise Resolver) (r Resolver, byName, ok bool) {
	for _, n := range p.Networks {
		if !n.anyName() && n.answers(name) {
			return n.resolver(otherwise), true, true
		}
	}
	for _, n := range p.Networks {
		if n.anyName() && n.answers(name) {
			return n.resolver(otherwise), false, true
		}
	}
	return otherwise, false, p.Internet || len(p.AllowPrivate) > 0
}

// reverseResolver is who answers what an address is called: whoever opens it.
func (p Policy) reverseResolver(a netip.Addr, names []string, otherwise Resolver) Resolver {
	for _, n := range p.Networks {
		if n.reaches(a, names) {
			return n.resolver(otherwise)
		}
	}
	return otherwise
}

func (n *Network) resolver(otherwise Resolver) Resolver {
	if n.Resolver != nil {
		return n.Resolver
	}
	return otherwise
}

// reachable tells whether the guest may reach an address on any port at all, given what it is
// called. It is asked about DNS answers: others say more about the host's networks than a guest
// should know.
func (p Policy) reachable(a netip.Addr, names []string, host []netip.Addr) Rule {
	if rule := never(a, host); rule != allowed {
		return rule
	}
	if within(private, a) {
		if within(p.AllowPrivate, a) {
			return allowed
		}
	} else if p.Internet {
		return allowed
	}
	for _, n := range p.Networks {
		if n.reaches(a, names) {
			return allowed
		}
	}
	return p.unlisted(a)
}

func within(ranges []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(a) })
}

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}
