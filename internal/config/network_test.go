package config

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const officeNetwork = `networks:
- name: office
  subnets: [subnet-0a1, subnet-0b2]
  accounts: ["000000000000"]
  dns: [10.1.0.53, "10.1.0.54:5353"]
  allow:
  - cidrs: [10.1.0.0/16, 192.0.2.7]
    ports: [443, 8000-8099]
  - hosts: [API.example.com, "*.example.com"]
    ports: [443]
  - hosts: [git.corp.example]
    cidrs: [10.2.0.0/16]
    ports: [22]
    opaque: true
  deny:
  - cidrs: [10.1.9.0/24]
  - hosts: [admin.example.com]
- name: world
  subnets: [subnet-0c3]
  internet: true
`

func TestNetworksAreReadWithTheirRules(t *testing.T) {
	file, err := Parse([]byte(officeNetwork))
	require.NoError(t, err)
	require.Len(t, file.Networks, 2)
	office := file.Networks[0]
	require.Equal(t, []string{"subnet-0a1", "subnet-0b2"}, office.Subnets)
	require.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("10.1.0.53:53"), netip.MustParseAddrPort("10.1.0.54:5353")}, office.Servers())
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("192.0.2.7/32")}, office.Allow[0].Ranges())
	require.Equal(t, [][2]uint16{{443, 443}, {8000, 8099}}, office.Allow[0].PortRanges())
	require.Equal(t, []string{"api.example.com", "*.example.com"}, office.Allow[1].HostNames())
	require.True(t, office.Allow[2].Opaque)
	require.Len(t, office.Deny, 2)
	require.True(t, file.Networks[1].Internet)
}

func TestTheExampleOfTheDocumentationIsRight(t *testing.T) {
	text, err := os.ReadFile("../../docs/egress.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "```yaml\n")
	require.True(t, found)
	example, _, found := strings.Cut(rest, "```")
	require.True(t, found)
	file, err := Parse([]byte(example))
	require.NoError(t, err)
	require.NotEmpty(t, file.Networks)
}

func TestWhatIsWrongWithANetworkIsToldWithItsLine(t *testing.T) {
	for change, want := range map[[2]string]string{
		{"name: world", "name: office"}:                                      `line 18: networks[1].name: there is a network "office" already`,
		{"name: world", "name: the world"}:                                   `line 18: networks[1].name: a network has a name`,
		{"- name: world\n  ", "- "}:                                          `line 18: networks[1].name: a network has a name`,
		{"[subnet-0c3]", "[subnet-0a1]"}:                                     `line 19: networks[1].subnets[0]: subnet subnet-0a1 leads into network "office" already`,
		{"[subnet-0c3]", "[]"}:                                               `networks[1]: network "world" has no subnets`,
		{"[subnet-0c3]", `["a b"]`}:                                          `line 19: networks[1].subnets[0]: "a b" is not the id of a subnet`,
		{`["000000000000"]`, `["12"]`}:                                       `line 4: networks[0].accounts[0]: "12" is not the twelve digits`,
		{`["000000000000"]`, `[]`}:                                           `line 4: networks[0].accounts: an empty list is none; leave it out for every account`,
		{"[443, 8000-8099]", `[]`}:                                           `line 8: networks[0].allow[0].ports: an empty list is none; leave it out for all ports`,
		{"10.1.0.53", "resolver"}:                                            `line 5: networks[0].dns[0]: "resolver" is neither the address of a DNS server`,
		{"10.1.0.54:5353", "10.1.0.54:0"}:                                    `line 5: networks[0].dns[1]`,
		{"10.1.0.0/16", "10.1.0.0/33"}:                                       `line 7: networks[0].allow[0].cidrs[0]: "10.1.0.0/33" is neither an address nor a range`,
		{"10.1.0.0/16", "10.1.2.3/16"}:                                       `line 7: networks[0].allow[0].cidrs[0]: 10.1.2.3/16 is not the beginning of its range, which is 10.1.0.0/16`,
		{"10.1.0.0/16", "127.0.0.0/8"}:                                       `line 7: networks[0].allow[0].cidrs[0]: 127.0.0.0/8: no network opens loopback`,
		{"10.1.0.0/16", "169.254.169.254"}:                                   `no network opens loopback, link-local`,
		{"10.1.0.0/16", "fd00::/8"}:                                          `guests have IPv4 only`,
		{"8000-8099", "8099-8000"}:                                           `line 8: networks[0].allow[0].ports[1]: "8099-8000" ends before it begins`,
		{"8000-8099", "0"}:                                                   `line 8: networks[0].allow[0].ports[1]`,
		{"8000-8099", "65536"}:                                               `"65536" is neither a port`,
		{"8000-8099", "https"}:                                               `"https" is neither a port`,
		{`"*.example.com"`, `"*"`}:                                           `line 9: networks[0].allow[1].hosts[1]: "*" is neither a host name nor *. and a host name`,
		{`"*.example.com"`, `"a.*.com"`}:                                     `neither a host name`,
		{`"*.example.com"`, "10.0.0.1"}:                                      `10.0.0.1 is an address: it belongs into cidrs`,
		{`"*.example.com"`, "example.com."}:                                  `neither a host name`,
		{"    cidrs: [10.2.0.0/16]\n", "    cidr: []\n"}:                     `unknown field "cidr"`,
		{"[10.1.0.0/16, 192.0.2.7]", "[]"}:                                   `networks[0].allow[0]: what is allowed has cidrs, hosts or both`,
		{"[git.corp.example]", "[]"}:                                         `networks[0].allow[2].opaque: only connections to hosts`,
		{"  - hosts: [admin.example.com]\n", "  - opaque: true\n"}:           `networks[0].deny[1]: what is denied has cidrs, hosts or ports`,
		{"[admin.example.com]", "[a.example]\n    cidrs: [10.0.0.0/8]"}:      `networks[0].deny[1]: what is denied has either cidrs or hosts`,
		{"internet: true", "internet: true\n  deny: [{hosts: [a.example]}]"}: `networks[1].deny[0].hosts: hosts are exceptions from allowed hosts`,
	} {
		text := strings.Replace(officeNetwork, change[0], change[1], 1)
		require.NotEqual(t, officeNetwork, text, change)
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, change)
	}
}
