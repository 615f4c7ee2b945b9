package netstack

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPolicyJudgesTheAddressThatIsDialled(t *testing.T) {
	host := []netip.Addr{
		netip.MustParseAddr("203.0.113.7"),
		netip.MustParseAddr("192.168.7.2"),
		netip.MustParseAddr("::ffff:198.51.100.9"),
		netip.MustParseAddr("fe80::1%eth0"),
		netip.MustParseAddr("2a00::7"),
	}
	internet := Policy{Internet: true}
	office := Policy{AllowPrivate: prefixes("192.168.0.0/16", "10.0.0.0/8", "100.64.0.0/10", "fd00::/8")}
	everything := Policy{Internet: true, AllowPrivate: prefixes("0.0.0.0/0", "::/0")}

	tests := []struct {
		name   string
		policy Policy
		dst    string
		want   Rule
	}{
		{"public address", internet, "93.184.216.34", allowed},
		{"public IPv6 address", internet, "2606:4700::1111", allowed},
		{"documentation range is an ordinary range", internet, "203.0.113.8", allowed},
		{"second documentation range", internet, "192.0.2.10", allowed},
		{"public address without Internet", office, "93.184.216.34", RuleNoEgress},
		{"anything for a sealed VM", Policy{}, "93.184.216.34", RuleNoEgress},
		{"private range that is not allowed", internet, "10.1.2.3", RulePrivate},
		{"172.16/12 upper end", internet, "172.31.255.255", RulePrivate},
		{"just above 172.16/12", internet, "172.32.0.0", allowed},
		{"carrier-grade NAT", internet, "100.127.0.1", RulePrivate},
		{"benchmark range", internet, "198.18.0.1", RulePrivate},
		{"unique-local IPv6", internet, "fd12::1", RulePrivate},
		{"allowed private range", office, "192.168.1.1", allowed},
		{"allowed carrier-grade range", office, "100.64.0.1", allowed},
		{"allowed unique-local range", office, "fd12::1", allowed},
		{"private range beside the allowed ones", office, "172.16.0.1", RulePrivate},
		{"the guest's own network is never outside", office, "10.0.2.77", RuleGuestNet},
		{"loopback", everything, "127.0.0.1", RuleLoopback},
		{"far end of loopback", everything, "127.255.255.254", RuleLoopback},
		{"IPv6 loopback", everything, "::1", RuleLoopback},
		{"zero address", everything, "0.0.0.0", RuleUnspecified},
		{"this network", everything, "0.1.2.3", RuleUnspecified},
		{"IPv6 zero address", everything, "::", RuleUnspecified},
		{"cloud metadata", everything, "169.254.169.254", RuleLinkLocal},
		{"IPv6 link-local", everything, "fe80::2", RuleLinkLocal},
		{"multicast", everything, "239.1.1.1", RuleMulticast},
		{"IPv6 multicast", everything, "ff02::1", RuleMulticast},
		{"broadcast", everything, "255.255.255.255", RuleReserved},
		{"class E", everything, "240.0.0.1", RuleReserved},
		{"protocol assignments", everything, "192.0.0.8", RuleReserved},
		{"IPv4-mapped loopback", everything, "::ffff:127.0.0.1", RuleTranslated},
		{"IPv4-mapped public address", everything, "::ffff:93.184.216.34", RuleTranslated},
		{"IPv4-compatible address", everything, "::127.0.0.1", RuleTranslated},
		{"NAT64", everything, "64:ff9b::7f00:1", RuleTranslated},
		{"6to4", everything, "2002:7f00:1::", RuleTranslated},
		{"the host's public address", everything, "203.0.113.7", RuleHost},
		{"the host's private address", everything, "192.168.7.2", RuleHost},
		{"the host's address reported as mapped", everything, "198.51.100.9", RuleHost},
		{"the host's IPv6 address", everything, "2a00::7", RuleHost},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, test.policy.check(netip.AddrPortFrom(netip.MustParseAddr(test.dst), 443), nil, host).rule)
		})
	}
	require.Equal(t, RuleUnspecified, everything.check(netip.AddrPort{}, nil, host).rule, "no address at all")
}

func FuzzPolicyNeverOpensTheHost(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1})
	everything := Policy{Internet: true, AllowPrivate: prefixes("0.0.0.0/0", "::/0"), Networks: []*Network{{
		Internet: true, Allow: []Entry{{Ranges: prefixes("0.0.0.0/0", "::/0", "127.0.0.0/8", "169.254.0.0/16", "10.0.0.0/8")}, {Hosts: []string{"*.example"}}},
	}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		dst, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		plain := dst.Unmap()
		closed := plain.IsLoopback() || plain.IsUnspecified() || plain.IsMulticast() || plain.IsLinkLocalUnicast()
		judge := func(host ...netip.Addr) Rule {
			return everything.check(netip.AddrPortFrom(dst, 443), []string{"a.example"}, host).rule
		}
		rule := judge(plain)
		require.NotEqual(t, allowed, rule, "%v is the host's own address here", dst)
		if closed {
			require.NotEqual(t, allowed, judge(), "%v", dst)
			require.NotEqual(t, allowed, everything.reachable(dst, []string{"a.example"}, nil), "%v", dst)
		}
	})
}
