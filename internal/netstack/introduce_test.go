package netstack

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// book is a resolver that knows the addresses of some names.
type book struct {
	zone
	addrs map[string][]string
}

func (b book) LookupNetIP(_ context.Context, _, host string) (found []netip.Addr, err error) {
	for _, a := range b.addrs[host] {
		found = append(found, netip.MustParseAddr(a))
	}
	if found == nil {
		err = errNotFound
	}
	return found, err
}

// named is a guest that may reach two hosts by their names, and how it fares.
type named struct {
	*testGuest
	stack   *Stack
	world   *outside
	denials chan Denial
	clock   *clockwork.FakeClock
}

const apiAddr = "203.0.113.5"

func newNamed(t *testing.T, change ...func(*Config)) *named {
	t.Helper()
	n := &named{world: newOutside(t), denials: make(chan Denial, 100), clock: clockwork.NewFakeClock()}
	names := book{addrs: map[string][]string{
		"api.example.com.": {apiAddr}, "web.example.com.": {apiAddr}, "db.corp.example.": {"10.1.2.3"},
		"inside.example.com.": {"127.0.0.1", "169.254.169.254", "10.1.2.3", "::ffff:127.0.0.1", "0.0.0.0", "10.0.2.2", "198.51.100.7", "224.0.0.1", "::1"},
		"half.example.com.":   {"127.0.0.1", "203.0.113.6"},
		"other.example.":      {"203.0.113.9"},
	}}
	cfg := Config{
		Policy: Policy{Networks: []*Network{{Name: "office", Allow: []Entry{
			{Hosts: []string{"*.example.com"}, Ports: []Ports{{443, 443}, {80, 80}}},
			{Hosts: []string{"db.corp.example"}, Ranges: prefixes("10.1.0.0/16"), Ports: []Ports{{5432, 5432}}, Opaque: true},
		}}}},
		Resolver: names, Dial: n.world.dial, Denied: func(d Denial) { n.denials <- d }, Clock: n.clock,
		HostAddrs: func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("198.51.100.7")}, nil },
	}
	for _, c := range change {
		c(&cfg)
	}
	n.stack, n.testGuest = newPair(t, cfg)
	return n
}

// resolve asks for a name as the guest does.
func (n *named) resolve(t *testing.T, name string) (addrs []string, code int) {
	t.Helper()
	reply := ask(t, n.testGuest, "udp", question(name, dns.TypeA))
	for _, record := range reply.Answer {
		addrs = append(addrs, record.(*dns.A).A.String())
	}
	return addrs, reply.Rcode
}

// connect dials what the guest has to be allowed to dial.
func (n *named) connect(t *testing.T, to string) *gonet.TCPConn {
	t.Helper()
	c, err := n.dial(t, to)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

func TestAnAddressIsOpenOnlyAfterItsNameWasAskedFor(t *testing.T) {
	n := newNamed(t)
	_, err := n.dial(t, apiAddr+":443")
	require.ErrorContains(t, err, "refused")
	require.Equal(t, Denial{Destination: netip.MustParseAddrPort(apiAddr + ":443"), Rule: RuleNotListed}, <-n.denials)
	addrs, code := n.resolve(t, "API.example.com.")
	require.Equal(t, dns.RcodeNameError, code, "the book knows no capitals")
	require.Empty(t, addrs)
	addrs, _ = n.resolve(t, "api.example.com.")
	require.Equal(t, []string{apiAddr}, addrs)
	n.connect(t, apiAddr+":443")
	_, err = n.dial(t, apiAddr+":22")
	require.ErrorContains(t, err, "refused")
	require.Equal(t, Denial{Destination: netip.MustParseAddrPort(apiAddr + ":22"), Name: "api.example.com", Rule: RuleNotListed}, <-n.denials)
	n.clock.Advance(nameTTL)
	_, err = n.dial(t, apiAddr+":443")
	require.ErrorContains(t, err, "refused", "an hour later it may be somebody else's")
}

func TestNothingGoesOutBeforeTheGuestHasNamedAnAllowedHost(t *testing.T) {
	for name, admitted := range map[string]bool{"api.example.com": true, "web.example.com": true, "other.example": false, "": false} {
		t.Run(name, func(t *testing.T) {
			n := newNamed(t)
			n.resolve(t, "api.example.com.")
			c := n.connect(t, apiAddr+":443")
			peer, err := n.world.Accept()
			require.NoError(t, err)
			defer peer.Close()
			go func() {
				_ = tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}).HandshakeContext(t.Context())
			}()
			var heard string
			if admitted {
				server := tls.Server(peer, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
					heard = hello.ServerName
					return nil, io.ErrClosedPipe
				}})
				require.ErrorIs(t, server.HandshakeContext(t.Context()), io.ErrClosedPipe)
				require.Equal(t, name, heard)
				require.Eventually(t, func() bool { return n.stack.Counters().EgressSent > 0 }, patience, time.Millisecond)
				return
			}
			got, _ := io.ReadAll(peer)
			require.Empty(t, got)
			require.Zero(t, n.stack.Counters().EgressSent)
			want := Denial{Destination: netip.MustParseAddrPort(apiAddr + ":443"), Name: name, Rule: RuleOtherName}
			if name == "" {
				want.Rule = RuleNoName
			}
			require.Equal(t, want, <-n.denials)
		})
	}
}

func TestPlaintextIsUnderstoodOnPort80(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: web.example.com\r\n\r\n"
	for _, test := range []struct {
		port, sent string
		want       Rule
	}{
		{"80", request, allowed},
		{"80", "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", RuleOtherName},
		{"80", "SSH-2.0-x\r\n\r\n", RuleNoName},
		{"443", request, RuleNoName},
	} {
		n := newNamed(t)
		n.resolve(t, "api.example.com.")
		c := n.connect(t, apiAddr+":"+test.port)
		peer, err := n.world.Accept()
		require.NoError(t, err)
		_, err = c.Write([]byte(test.sent))
		require.NoError(t, err)
		_ = c.CloseWrite()
		got, _ := io.ReadAll(peer)
		peer.Close()
		if test.want == allowed {
			require.Equal(t, test.sent, string(got))
			continue
		}
		require.Empty(t, got, test.sent)
		require.Equal(t, test.want, (<-n.denials).Rule, test.sent)
	}
}

func TestAGuestThatNamesNothingIsCutOff(t *testing.T) {
	n := newNamed(t)
	n.resolve(t, "api.example.com.")
	c := n.connect(t, apiAddr+":443")
	require.NoError(t, n.clock.BlockUntilContext(t.Context(), 1))
	n.clock.Advance(greetingLimit)
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	require.Equal(t, RuleNoName, (<-n.denials).Rule)

	c = n.connect(t, apiAddr+":443")
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { return len(n.stack.slots) == 0 }, patience, time.Millisecond)
	require.Empty(t, n.denials, "whether somebody listens may be asked")
}

func TestOpaqueConnectionsAreNotLookedInto(t *testing.T) {
	n := newNamed(t)
	_, err := n.dial(t, "10.1.2.3:5432")
	require.ErrorContains(t, err, "refused")
	n.resolve(t, "db.corp.example.")
	n.connect(t, "10.1.2.3:5432")
	peer, err := n.world.Accept()
	require.NoError(t, err)
	defer peer.Close()
	_, err = peer.Write([]byte("the server speaks first"))
	require.NoError(t, err)
}

func TestANameThatLeadsInsideOpensNothing(t *testing.T) {
	n := newNamed(t)
	addrs, code := n.resolve(t, "inside.example.com.")
	require.Equal(t, dns.RcodeSuccess, code)
	require.Empty(t, addrs, "the guest does not even learn them")
	rules := map[Rule]bool{}
	for len(n.denials) > 0 {
		d := <-n.denials
		require.Equal(t, "refused an address of inside.example.com: "+string(d.Rule), d.String(), "nor does who reads of it")
		rules[d.Rule] = true
	}
	require.Equal(t, map[Rule]bool{RuleLoopback: true, RuleLinkLocal: true, RulePrivate: true, RuleUnspecified: true, RuleGuestNet: true, RuleHost: true, RuleMulticast: true}, rules)
	for _, a := range []string{"169.254.169.254", "10.1.2.3", "10.0.2.2", "198.51.100.7"} {
		_, err := n.dial(t, a+":443")
		require.ErrorContains(t, err, "refused", a)
	}
	addrs, _ = n.resolve(t, "half.example.com.")
	require.Equal(t, []string{"203.0.113.6"}, addrs)
}

func TestNamesThatNoRuleNeedsAreRefused(t *testing.T) {
	n := newNamed(t)
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeMX, dns.TypeCNAME, dns.TypeSRV, dns.TypeNS, dns.TypeHTTPS} {
		query := question("secret-in-a-name.other.example.", kind).SetEdns0(1232, false)
		reply := ask(t, n.testGuest, "udp", query)
		require.Equal(t, dns.RcodeRefused, reply.Rcode)
		require.True(t, slices.ContainsFunc(reply.IsEdns0().Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0EDE }))
		require.Equal(t, Denial{Name: "secret-in-a-name.other.example", Rule: RuleNotListed}, <-n.denials)
	}
	require.Equal(t, dns.RcodeNameError, ask(t, n.testGuest, "udp", question("9.113.0.203.in-addr.arpa.", dns.TypePTR)).Rcode)
	n.resolve(t, "api.example.com.")
	require.Equal(t, dns.RcodeSuccess, ask(t, n.testGuest, "udp", question("5.113.0.203.in-addr.arpa.", dns.TypePTR)).Rcode)
}

func TestWhatIsKnownOutlivesAStack(t *testing.T) {
	names, meter := new(Names), new(Meter)
	share := func(c *Config) { c.Names, c.Meter = names, meter }
	n := newNamed(t, share)
	n.resolve(t, "api.example.com.")
	_, err := n.dial(t, "10.9.9.9:1")
	require.Error(t, err)
	require.NoError(t, n.stack.Close())
	again := newNamed(t, share, func(c *Config) { c.Clock = n.clock })
	again.connect(t, apiAddr+":443")
	require.Equal(t, uint64(1), again.stack.Counters().Denied)
}

func TestMovedIsToldOfPayload(t *testing.T) {
	moved := make(chan bool, 100)
	world := newOutside(t)
	_, g := newPair(t, Config{Policy: Policy{Internet: true}, Dial: world.dial, Moved: func() { moved <- true }})
	go world.echoOnce()
	c, err := g.dial(t, "93.184.216.34:443")
	require.NoError(t, err)
	defer c.Close()
	require.Empty(t, moved, "a connection alone is nothing")
	_, err = c.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	require.NoError(t, err)
	<-moved
	<-moved
}
