package microvm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const (
	managedConnector  = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:"
	customerConnector = "arn:aws:lambda:us-east-1:" + account + ":network-connector:"
)

// connect adds a connector of the account with subnets.
func (w *world) connect(id string, subnets ...string) (arn string) {
	w.t.Helper()
	c := store.Connector{
		ID: id, ARN: customerConnector + id, AccountID: account, Region: "us-east-1", Name: "name-of-" + id,
		State: store.ConnectorActive, Config: store.ConnectorConfig{Subnets: subnets},
	}
	require.NoError(w.t, w.store.CreateConnector(w.t.Context(), c, nil))
	return c.ARN
}

// policy is what the guest that was started last may reach.
func (w *world) policy() netstack.Policy {
	w.guests.mu.Lock()
	defer w.guests.mu.Unlock()
	return w.guests.origins[len(w.guests.origins)-1].network.Policy
}

func TestConnectorsLeadWhereTheConfigurationSays(t *testing.T) {
	private := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	office, lab, theirs := &netstack.Network{Name: "office"}, &netstack.Network{Name: "lab"}, &netstack.Network{Name: "theirs"}
	networks := []Network{
		{Subnets: []string{"subnet-1", "subnet-2"}, Rules: office},
		{Subnets: []string{"subnet-3"}, Accounts: []string{account}, Rules: lab},
		{Subnets: []string{"subnet-4"}, Accounts: []string{"222222222222"}, Rules: theirs},
	}
	inWorldWith(t, func(c *Config) { c.Network.Policy.AllowPrivate, c.Networks = private, networks }, func(t *testing.T, w *world) {
		internet := netstack.Policy{Internet: true, AllowPrivate: private}
		into := func(n ...*netstack.Network) netstack.Policy { return netstack.Policy{Networks: n} }
		both := internet
		both.Networks = []*netstack.Network{office}
		first, second, third := w.connect("nc-1", "subnet-1", "subnet-9"), w.connect("nc-2", "subnet-2", "subnet-3"), w.connect("nc-3", "subnet-4")
		for _, c := range []struct {
			what       string
			connectors []string
			want       netstack.Policy
		}{
			{"none", nil, netstack.Policy{}},
			{"NO_EGRESS", []string{managedConnector + "NO_EGRESS"}, netstack.Policy{}},
			{"the internet", []string{managedConnector + "INTERNET_EGRESS"}, internet},
			{"its name alone", []string{"INTERNET_EGRESS"}, netstack.Policy{}},
			{"a connector that has its name", []string{customerConnector + "INTERNET_EGRESS"}, netstack.Policy{}},
			{"one of the connector's subnets", []string{first}, into(office)},
			{"networks of two subnets", []string{second}, into(office, lab)},
			{"several connectors", []string{first, second, managedConnector + "INTERNET_EGRESS"}, netstack.Policy{Internet: true, AllowPrivate: private, Networks: []*netstack.Network{office, lab}}},
			{"with the internet", []string{managedConnector + "INTERNET_EGRESS", first}, both},
			{"a network of another account", []string{third}, netstack.Policy{}},
			{"a connector that is gone", []string{customerConnector + "nc-9"}, netstack.Policy{}},
		} {
			require.Equal(t, c.want, w.egress(t.Context(), c.connectors), c.what)
		}
	})
}

func TestAMicroVMWithACustomersConnectorIsSealedUnlessANetworkHasItsSubnet(t *testing.T) {
	office := &netstack.Network{Name: "office"}
	inWorldWith(t, func(c *Config) { c.Networks = []Network{{Subnets: []string{"subnet-1"}, Rules: office}} }, func(t *testing.T, w *world) {
		connector := w.connect("nc-1", "subnet-of-nobody")
		id := w.run(func(rec *store.MicroVM) { rec.EgressConnectors = []string{connector} })
		require.Equal(t, netstack.Policy{}, w.policy())

		// A change of the connector takes effect at the next wake.
		_, _, err := w.store.UpdateConnector(t.Context(), "nc-1", time.Now(), nil, func(c *store.ConnectorConfig) { c.Subnets = []string{"subnet-1"} })
		require.NoError(t, err)
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		require.NoError(t, w.Resume(t.Context(), id))
		w.becomes(id, store.VMRunning)
		require.Equal(t, netstack.Policy{Networks: []*netstack.Network{office}}, w.policy())
	})
}

func TestAChangedConfigurationTakesEffectWithTheNextDaemon(t *testing.T) {
	office := &netstack.Network{Name: "office"}
	var networks []Network
	inWorldWith(t, func(c *Config) { c.Networks = networks }, func(t *testing.T, w *world) {
		connector := w.connect("nc-1", "subnet-1")
		id := w.run(func(rec *store.MicroVM) { rec.EgressConnectors = []string{connector} })
		require.Equal(t, netstack.Policy{}, w.policy())
		w.close()
		networks = []Network{{Subnets: []string{"subnet-1"}, Rules: office}}
		w.open()
		require.NoError(t, w.Resume(t.Context(), id))
		w.becomes(id, store.VMRunning)
		require.Equal(t, netstack.Policy{Networks: []*netstack.Network{office}}, w.policy())
	})
}

// network is that of a microVM's guest.
func (w *world) network(id string) netstack.Config {
	v, err := w.find(w.t.Context(), id)
	require.NoError(w.t, err)
	return v.guestNetwork()
}

func refusal(port uint16) netstack.Denial {
	return netstack.Denial{Destination: netip.AddrPortFrom(netip.MustParseAddr("10.9.9.9"), port), Rule: netstack.RulePrivate}
}

// refused are the events that tell of refusals.
func (w *world) refused(id string) (texts []string) {
	for _, e := range w.events(id) {
		if e.Operation == "egress" {
			require.Equal(w.t, causePolicy, e.Cause)
			require.Empty(w.t, e.From+e.To)
			texts = append(texts, e.Detail)
		}
	}
	return texts
}

func TestRefusedConnectionsAreEvents(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		denied := w.network(id).Denied
		for range 3 {
			denied(refusal(22))
		}
		denied(netstack.Denial{Name: "other.example", Rule: netstack.RuleNotListed})
		w.settles()
		require.Empty(t, w.refused(id), "the network does not wait for the database")
		w.passes(denialDelay)
		require.Equal(t, []string{"refused 10.9.9.9:22: private (3 times)", "refused to resolve other.example: not-listed"}, w.refused(id))
		w.passes(hour)
		denied(refusal(22))
		w.passes(denialDelay)
		require.Len(t, w.refused(id), 3)
		denied(refusal(23))
		require.NoError(t, w.Terminate(t.Context(), id))
		w.becomes(id, store.VMTerminated)
		w.settles()
		require.Contains(t, w.refused(id), "refused 10.9.9.9:23: private", "the last ones are told with the end")
	})
}

func TestAGuestThatScansLeavesABoundedNumberOfEvents(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		network := w.network(id)
		const hours = 7
		for range hours * 3600 / 10 {
			for port := range uint16(100) {
				network.Denied(refusal(port + 1))
			}
			w.passes(10 * time.Second)
		}
		w.passes(2 * hour)
		texts := w.refused(id)
		require.LessOrEqual(t, len(texts), (hours+1)*(denialsPerHour+1))
		told, more := 0, 0
		for _, text := range texts {
			var n int
			if _, err := fmt.Sscanf(text, "refused %d more", &n); err == nil {
				more += n
				continue
			}
			told++
		}
		require.GreaterOrEqual(t, told, hours*denialsPerHour)
		require.Equal(t, hours*3600/10*100, told+more, "none is lost")
	})
}

func TestNotesOfABuildAreBounded(t *testing.T) {
	var notes []string
	denied := noteDenials(func(text string) { notes = append(notes, text) })
	for port := range uint16(100) {
		denied(refusal(port + 1))
		denied(refusal(1))
	}
	require.Len(t, notes, maxNoted+1)
	require.Equal(t, "network: refused 10.9.9.9:1: private; the image's egress connectors do not allow it", notes[0])
}

func TestTrafficIsCountedOverTheWholeLifeOfAMicroVM(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		network := w.network(id)
		network.Meter.Sent.Add(5)
		network.Meter.Received.Add(7)
		network.Meter.Denied.Add(1)
		lease, err := w.vm(id).Lease(t.Context())
		require.NoError(t, err)
		host, guest := net.Pipe()
		go func() {
			b := make([]byte, 3)
			_, _ = guest.Read(b)
			_, _ = guest.Write([]byte("answer"))
		}()
		c := countedConn{host, &lease.gate.v.traffic}
		_, err = c.Write([]byte("ask"))
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 10))
		require.NoError(t, err)
		require.True(t, errors.Is(c.CloseWrite(), errors.ErrUnsupported), "a pipe has no half")
		want := store.Traffic{IngressIn: 3, IngressOut: 6, EgressIn: 7, EgressOut: 5, Denied: 1}
		details, _ := w.Details(id)
		require.Equal(t, want, details.Traffic)
		require.NoError(t, w.Suspend(t.Context(), id))
		require.Equal(t, want, w.becomes(id, store.VMSuspended).Traffic)
		w.close()
		w.open()
		details, _ = w.Details(id)
		require.Equal(t, want, details.Traffic, "a new daemon goes on from there")
		require.Equal(t, want, w.Traffic())
		w.network(id).Meter.Sent.Add(1)
		require.NoError(t, w.Terminate(t.Context(), id))
		want.EgressOut++
		require.Equal(t, want, w.becomes(id, store.VMTerminated).Traffic)
		w.passes(2 * goneFor)
		require.Equal(t, want, w.Traffic(), "totals do not go down")
	})
}

func TestOutwardTrafficKeepsAMicroVMAwakeOnlyWhenItCounts(t *testing.T) {
	for _, counts := range []bool{false, true} {
		inWorldWith(t, func(c *Config) { c.IdleCounts.Egress = counts }, func(t *testing.T, w *world) {
			id := w.run(idle(time.Minute, hour, true))
			moved := w.network(id).Moved
			require.Equal(t, counts, moved != nil)
			for range 10 {
				w.passes(30 * time.Second)
				if moved != nil {
					moved()
				}
			}
			want := map[bool]string{false: store.VMSuspended, true: store.VMRunning}[counts]
			require.Equal(t, want, w.row(id).State)
		})
	}
}
