package microvm

import (
	"context"
	"errors"
	"slices"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Network is a named network that customers' connectors lead into.
type Network struct {
	Subnets  []string // ids by which connectors name it
	Accounts []string // that may use it; none means all
	Rules    *netstack.Network
}

// egress maps egress connectors (spec/behaviour.md 6) to what a guest may reach now. It is asked at
// every launch, wake and adoption, so that a change of the configuration or of a connector takes
// effect. What cannot be found out leads nowhere.
func (m *Manager) egress(ctx context.Context, connectors []string) netstack.Policy {
	policy := netstack.Policy{}
	for _, text := range connectors {
		connector, err := arn.ParseConnector(text)
		switch {
		case err != nil:
		case connector.Managed():
			if connector.Name == internetEgress { // the only other one is NO_EGRESS
				policy.Internet = true
				policy.AllowPrivate = m.cfg.Network.Policy.AllowPrivate
			}
		default:
			for _, network := range m.networksOf(ctx, connector) {
				if !slices.Contains(policy.Networks, network) {
					policy.Networks = append(policy.Networks, network)
				}
			}
		}
	}
	return policy
}

const internetEgress = "INTERNET_EGRESS"

// networksOf are the networks that a customer's connector leads into.
func (m *Manager) networksOf(ctx context.Context, connector arn.Connector) (networks []*netstack.Network) {
	if len(m.cfg.Networks) == 0 {
		return nil // and nothing is looked up
	}
	row, err := m.cfg.Records.Connector(ctx, connector.Account, connector.Region, connector.Name)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
			m.log.Error("where a network connector leads cannot be found out", "connector", connector.String(), "error", err)
		}
		return nil
	}
	for _, n := range m.cfg.Networks {
		ours := len(n.Accounts) == 0 || slices.Contains(n.Accounts, connector.Account)
		if ours && slices.ContainsFunc(n.Subnets, func(subnet string) bool { return slices.Contains(row.Config.Subnets, subnet) }) {
			networks = append(networks, n.Rules)
		}
	}
	return networks
}

// guestNetwork is the network of this microVM's guest for its next session.
func (v *vm) guestNetwork() netstack.Config {
	network := v.m.cfg.Network
	network.Policy = v.m.egress(v.life, v.view.Load().rec.EgressConnectors)
	network.Meter, network.Names, network.Denied = &v.traffic.egress, &v.names, v.denials.add
	if v.m.cfg.IdleCounts.Egress {
		network.Moved = v.touch
	}
	return identified(network, v.metadata)
}
