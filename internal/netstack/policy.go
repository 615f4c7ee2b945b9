package netstack

import (
	"net/netip"
	"slices"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// Policy is what a guest may reach. The zero value is nothing.
type Policy struct {
	// Internet allows public addresses.
	Internet bool
	// AllowPrivate lists private, carrier-grade and unique-local ranges the guest may reach;
	// it never opens loopback, link-local, multicast, the guest's own network or the host itself.
	AllowPrivate []netip.Prefix
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
	RulePrivate     Rule = "private"       // no AllowPrivate range holds it
	RuleNoEgress    Rule = "no-egress"     // public, and the policy has no Internet
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

// check judges the address that is about to be dialled. Names play no part: whatever a DNS answer
// said, this is asked about the address itself. host lists the host's own addresses.
func (p Policy) check(dst netip.Addr, host []netip.Addr) Rule {
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
	case within(private, dst):
		if within(p.AllowPrivate, dst) {
			return allowed
		}
		return RulePrivate
	case !p.Internet:
		return RuleNoEgress
	}
	return allowed
}

// sealed says whether the guest can reach nothing at all, so that names are of no use to it.
func (p Policy) sealed() bool { return !p.Internet && len(p.AllowPrivate) == 0 }

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
