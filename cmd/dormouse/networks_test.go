package main

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/config"
	"github.com/dormouse-dev/dormouse/internal/extension"
	"github.com/dormouse-dev/dormouse/internal/netstack"
)

func TestNetworksOfTheConfigurationBecomeRules(t *testing.T) {
	file, err := config.Parse([]byte(`networks:
- name: office
  subnets: [subnet-1]
  accounts: ["111111111111"]
  dns: [10.1.0.53]
  allow:
  - {hosts: ["*.Example.com"], cidrs: [10.1.0.0/16], ports: [22, 8000-8099], opaque: true}
  deny:
  - {cidrs: [10.1.9.9]}
- {name: world, subnets: [subnet-2], internet: true}
`))
	require.NoError(t, err)
	networks := namedNetworks(file)
	require.Len(t, networks, 2)
	require.NotNil(t, networks[0].Rules.Resolver)
	networks[0].Rules.Resolver = nil
	require.Equal(t, &netstack.Network{
		Name: "office",
		Allow: []netstack.Entry{{
			Ranges: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, Hosts: []string{"*.example.com"},
			Ports: []netstack.Ports{{First: 22, Last: 22}, {First: 8000, Last: 8099}}, Opaque: true,
		}},
		Deny: []netstack.Entry{{Ranges: []netip.Prefix{netip.MustParsePrefix("10.1.9.9/32")}}},
	}, networks[0].Rules)
	require.Equal(t, []string{"subnet-1"}, networks[0].Subnets)
	require.Equal(t, []string{"111111111111"}, networks[0].Accounts)
	require.True(t, networks[1].Rules.Internet)
	require.Nil(t, networks[1].Rules.Resolver, "the host's own")
}

func TestTrafficInWords(t *testing.T) {
	require.Empty(t, trafficWords(extension.Traffic{}))
	require.Equal(t, "endpoint 2 KiB in, 3 MiB out; outwards 0 B in, 1 B out; 7 times refused",
		trafficWords(extension.Traffic{IngressIn: 2 << 10, IngressOut: 3 << 20, EgressOut: 1, Denied: 7}))
	require.Equal(t, "once refused", trafficWords(extension.Traffic{Denied: 1}))
}
