package main

import (
	"github.com/dormouse-dev/dormouse/internal/config"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/netstack"
)

// namedNetworks are those of the configuration, as microVMs go out into them.
func namedNetworks(file config.File) []microvm.Network {
	networks := make([]microvm.Network, len(file.Networks))
	for i, n := range file.Networks {
		rules := &netstack.Network{Name: n.Name, Internet: n.Internet, Allow: entries(n.Allow), Deny: entries(n.Deny)}
		if servers := n.Servers(); len(servers) > 0 {
			rules.Resolver = netstack.AskServers(servers)
		}
		networks[i] = microvm.Network{Subnets: n.Subnets, Accounts: n.Accounts, Rules: rules}
	}
	return networks
}

func entries(rules []config.NetworkRule) []netstack.Entry {
	all := make([]netstack.Entry, len(rules))
	for i, r := range rules {
		all[i] = netstack.Entry{Ranges: r.Ranges(), Hosts: r.HostNames(), Opaque: r.Opaque}
		for _, p := range r.PortRanges() {
			all[i].Ports = append(all[i].Ports, netstack.Ports{First: p[0], Last: p[1]})
		}
	}
	return all
}
