package netstack

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestANetworkOpensWhatItsRulesName(t *testing.T) {
	https, web := []Ports{{443, 443}}, []Ports{{80, 80}, {8000, 8099}}
	office := &Network{
		Name: "office",
		Allow: []Entry{
			{Ranges: prefixes("10.1.0.0/16", "203.0.113.0/24"), Ports: https},
			{Ranges: prefixes("192.168.0.0/16", "0.0.0.0/0"), Ports: web},
			{Hosts: []string{"api.example.com", "*.cdn.example"}, Ports: https},
			{Hosts: []string{"git.corp.example"}, Ranges: prefixes("10.2.0.0/16"), Ports: []Ports{{22, 22}}, Opaque: true},
		},
		Deny: []Entry{
			{Ranges: prefixes("10.1.9.0/24")},
			{Ports: []Ports{{8080, 8080}}},
			{Hosts: []string{"bad.cdn.example"}},
		},
	}
	world := &Network{Name: "world", Internet: true, Deny: []Entry{{Ranges: prefixes("198.51.100.0/24")}}}
	named := verdict{named: true}
	denied := verdict{rule: RuleDenied, network: "office"}
	tests := []struct {
		what     string
		networks []*Network
		to       string
		names    []string
		want     verdict
	}{
		{"private range, port fits", []*Network{office}, "10.1.2.3:443", nil, verdict{}},
		{"private range, another port", []*Network{office}, "10.1.2.3:22", nil, verdict{rule: RulePrivate}},
		{"public range", []*Network{office}, "203.0.113.9:443", nil, verdict{}},
		{"public address beside it", []*Network{office}, "93.184.216.34:443", nil, verdict{rule: RuleNotListed}},
		{"range of ports, first", []*Network{office}, "192.168.1.1:8000", nil, verdict{}},
		{"range of ports, last", []*Network{office}, "192.168.1.1:8099", nil, verdict{}},
		{"range of ports, beyond", []*Network{office}, "192.168.1.1:8100", nil, verdict{rule: RulePrivate}},
		{"0.0.0.0/0 is the public internet", []*Network{office}, "93.184.216.34:80", nil, verdict{}},
		{"and opens nothing private", []*Network{office}, "172.16.0.1:80", nil, verdict{rule: RulePrivate}},
		{"exception by range", []*Network{office}, "10.1.9.1:443", nil, denied},
		{"exception by port", []*Network{office}, "192.168.1.1:8080", nil, denied},
		{"a name that is allowed", []*Network{office}, "93.184.216.34:443", []string{"api.example.com"}, named},
		{"on another port", []*Network{office}, "93.184.216.34:22", []string{"api.example.com"}, verdict{rule: RuleNotListed}},
		{"a name below one", []*Network{office}, "93.184.216.34:443", []string{"x.y.cdn.example"}, named},
		{"that name itself", []*Network{office}, "93.184.216.34:443", []string{"cdn.example"}, verdict{rule: RuleNotListed}},
		{"a name that only ends so", []*Network{office}, "93.184.216.34:443", []string{"evilcdn.example"}, verdict{rule: RuleNotListed}},
		{"an exception by name", []*Network{office}, "93.184.216.34:443", []string{"bad.cdn.example"}, verdict{rule: RuleNotListed}},
		{"one of several names", []*Network{office}, "93.184.216.34:443", []string{"bad.cdn.example", "good.cdn.example"}, named},
		{"a name opens nothing private", []*Network{office}, "172.16.0.1:443", []string{"api.example.com"}, verdict{rule: RulePrivate}},
		{"unless its ranges do", []*Network{office}, "10.2.0.1:22", []string{"git.corp.example"}, verdict{}},
		{"and those alone do not", []*Network{office}, "10.2.0.1:22", nil, verdict{rule: RulePrivate}},
		{"a name opens no loopback", []*Network{office}, "127.0.0.1:443", []string{"api.example.com"}, verdict{rule: RuleLoopback}},
		{"nor metadata", []*Network{office, world}, "169.254.169.254:80", []string{"api.example.com"}, verdict{rule: RuleLinkLocal}},
		{"nor zero", []*Network{office, world}, "0.0.0.0:443", []string{"api.example.com"}, verdict{rule: RuleUnspecified}},
		{"nor the host", []*Network{office, world}, "203.0.113.7:443", []string{"api.example.com"}, verdict{rule: RuleHost}},
		{"nor the guest's own network, whatever ranges say", []*Network{{Allow: []Entry{{Ranges: prefixes("10.0.0.0/8")}}}}, "10.0.2.2:443", nil, verdict{rule: RuleGuestNet}},
		{"the internet", []*Network{world}, "93.184.216.34:25", nil, verdict{}},
		{"but for an exception", []*Network{world}, "198.51.100.1:443", nil, verdict{rule: RuleDenied, network: "world"}},
		{"the internet has no private addresses", []*Network{world}, "10.1.2.3:443", nil, verdict{rule: RulePrivate}},
		{"two networks add up", []*Network{office, world}, "93.184.216.34:443", []string{"api.example.com"}, verdict{}},
		{"an exception is one network's own", []*Network{world, {Name: "n", Allow: []Entry{{Ranges: prefixes("198.51.100.0/24")}}}}, "198.51.100.1:443", nil, verdict{}},
		{"an empty network", []*Network{{Name: "n"}}, "93.184.216.34:443", nil, verdict{rule: RuleNotListed}},
	}
	host := []netip.Addr{netip.MustParseAddr("203.0.113.7")}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			require.Equal(t, test.want, Policy{Networks: test.networks}.check(netip.MustParseAddrPort(test.to), test.names, host))
		})
	}
	p := Policy{Networks: []*Network{office}}
	for name, to := range map[string]string{"api.example.com": "93.184.216.34:443", "x.cdn.example": "93.184.216.34:443"} {
		require.True(t, p.admits(name, netip.MustParseAddrPort(to)), name)
	}
	for name, to := range map[string]string{
		"bad.cdn.example": "93.184.216.34:443", "other.example": "93.184.216.34:443",
		"api.example.com": "93.184.216.34:8000", "x.cdn.example": "10.1.2.3:443",
	} {
		require.False(t, p.admits(name, netip.MustParseAddrPort(to)), name)
	}
}

func TestNamesAreAnsweredByTheNetworkThatNamesThem(t *testing.T) {
	type marked struct {
		zone
		mark string
	}
	hosts := &Network{Name: "hosts", Resolver: marked{mark: "hosts"}, Allow: []Entry{{Hosts: []string{"*.corp.example"}}}, Deny: []Entry{{Hosts: []string{"hr.corp.example"}}}}
	ranges := &Network{Name: "ranges", Resolver: marked{mark: "ranges"}, Allow: []Entry{{Ranges: prefixes("10.1.0.0/16")}}}
	for _, test := range []struct {
		what   string
		policy Policy
		name   string
		mark   string // "" = nobody
		byName bool
	}{
		{"a sealed VM", Policy{}, "a.example", "", false},
		{"the internet", Policy{Internet: true}, "a.example", "host", false},
		{"private ranges of the installation", Policy{AllowPrivate: prefixes("10.0.0.0/8")}, "a.example", "host", false},
		{"a name that is listed", Policy{Networks: []*Network{hosts}}, "a.corp.example", "hosts", true},
		{"one that is not", Policy{Networks: []*Network{hosts}}, "corp.example", "", false},
		{"an exception", Policy{Networks: []*Network{hosts}}, "hr.corp.example", "", false},
		{"rules without names", Policy{Networks: []*Network{ranges}}, "a.example", "ranges", false},
		{"whoever names it goes first", Policy{Internet: true, Networks: []*Network{ranges, hosts}}, "a.corp.example", "hosts", true},
		{"and any network before the host's own", Policy{Internet: true, Networks: []*Network{hosts, ranges}}, "a.example", "ranges", false},
		{"a network without rules", Policy{Networks: []*Network{{Name: "n"}}}, "a.example", "", false},
	} {
		r, byName, ok := test.policy.resolver(test.name, marked{mark: "host"})
		require.Equal(t, test.mark != "", ok, test.what)
		if ok {
			require.Equal(t, test.mark, r.(marked).mark, test.what)
			require.Equal(t, test.byName, byName, test.what)
		}
	}
}
