package microvm

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestOnlyTheManagedConnectorLeadsOut(t *testing.T) {
	const (
		internet = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS"
		customer = "arn:aws:lambda:us-east-1:111111111111:network-connector:nc-1"
		posing   = "arn:aws:lambda:us-east-1:111111111111:network-connector:INTERNET_EGRESS"
	)
	template := netstack.Policy{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	open := netstack.Policy{Internet: true, AllowPrivate: template.AllowPrivate}
	for _, c := range []struct {
		connectors []string
		want       netstack.Policy
	}{
		{nil, netstack.Policy{}},
		{[]string{customer}, netstack.Policy{}}, // a network of the customer's without routes: no way out
		{[]string{posing}, netstack.Policy{}},
		{[]string{internet}, open},
		{[]string{customer, internet}, open},
		{[]string{"INTERNET_EGRESS"}, netstack.Policy{}},
	} {
		require.Equal(t, c.want, egressPolicy(c.connectors, template), c.connectors)
	}
}

func TestAMicroVMWithACustomersConnectorIsSealed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		connector := store.Connector{
			ID: "nc-1", ARN: "arn:aws:lambda:us-east-1:" + account + ":network-connector:nc-1",
			AccountID: account, Region: "us-east-1", Name: "office", State: store.ConnectorActive,
		}
		require.NoError(t, w.store.CreateConnector(t.Context(), connector, nil))
		id := w.run(func(rec *store.MicroVM) { rec.EgressConnectors = []string{connector.ARN} })
		v, err := w.find(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, netstack.Policy{}, v.origin().network.Policy)
	})
}
