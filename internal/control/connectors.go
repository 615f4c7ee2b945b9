package control

import (
	"slices"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

const (
	httpIngress    = awsapi.DefaultIngress
	allIngress     = "ALL_INGRESS"
	noIngress      = "NO_INGRESS"
	shellIngress   = "SHELL_INGRESS"
	internetEgress = awsapi.DefaultImageEgress
	noEgress       = "NO_EGRESS"
)

// direction is which way the traffic of a connector goes.
type direction struct {
	word      string
	managed   []string
	customers bool // customers' own connectors go this way
}

// The network connectors there are (spec/behaviour.md 1 and 6). The live service has no NO_EGRESS.
var (
	ingress = direction{"ingress", []string{httpIngress, allIngress, noIngress, shellIngress}, false}
	egress  = direction{"egress", []string{internetEgress, noEgress}, true}
)

// check refuses connectors that cannot be used in this direction. action is the operation that asks.
func (d direction) check(c awsapi.Caller, connectors []string, action string) error {
	for _, text := range connectors {
		connector, err := arn.ParseConnector(text)
		if err != nil {
			return awsapi.Validation("Malformed network connector ARN: %s", text)
		}
		switch connector.Account {
		case arn.ManagedAccount:
			if err := d.checkManaged(c, connector); err != nil {
				return err
			}
		case c.AccountID:
			// Whether it exists and is ACTIVE is found out in the transaction that begins to use it.
			if !d.customers {
				return awsapi.Validation("Network connector cannot be used for %s: %s", d.word, text)
			}
			if connector.Region != c.Region {
				return connectorNotFound(text)
			}
		default:
			return denied(c, action, text)
		}
	}
	return contradiction(connectors)
}

// contradiction refuses NO_EGRESS beside a way out: whoever asks for both is mistaken about one.
func contradiction(connectors []string) error {
	sealed := 0
	for _, text := range connectors {
		if connector, err := arn.ParseConnector(text); err == nil && connector.Managed() && connector.Name == noEgress {
			sealed++
		}
	}
	if sealed > 0 && sealed < len(connectors) {
		return awsapi.Validation("Network connector %s cannot be combined with other egress connectors", noEgress)
	}
	return nil
}

func connectorNotFound(identifier string) *awsapi.Error {
	return awsapi.NotFound("Network connector not found: %s", identifier)
}

func (d direction) checkManaged(c awsapi.Caller, connector arn.Connector) error {
	known := slices.Contains(ingress.managed, connector.Name) || slices.Contains(egress.managed, connector.Name)
	if !known || connector.Region != c.Region {
		return awsapi.Validation("Unrecognized managed network connector ARN: %s", connector)
	}
	if !slices.Contains(d.managed, connector.Name) {
		return awsapi.Validation("Network connector cannot be used for %s: %s", d.word, connector)
	}
	return nil
}
