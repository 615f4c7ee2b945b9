package netstack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// zone is a resolver that knows one name, debian.example, and a long one.
type zone struct{}

var errNotFound = &net.DNSError{Err: "no such host", IsNotFound: true}

func (zone) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	switch {
	case network == "ip4" && host == "debian.example.":
		return []netip.Addr{netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("203.0.113.6")}, nil
	case host == "many.example.":
		all := make([]netip.Addr, 100)
		for i := range all {
			all[i] = netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
		}
		return all, nil
	case host == "broken.example.":
		return nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	}
	return nil, errNotFound
}
func (zone) LookupCNAME(_ context.Context, host string) (string, error) {
	if host == "www.example." {
		return "debian.example.", nil
	}
	return host, nil
}
func (zone) LookupMX(context.Context, string) ([]*net.MX, error) {
	return []*net.MX{{Host: "mail.example.", Pref: 10}}, nil
}
func (zone) LookupNS(context.Context, string) ([]*net.NS, error) { return nil, errNotFound }
func (zone) LookupSRV(_ context.Context, _, _, _ string) (string, []*net.SRV, error) {
	return "", []*net.SRV{{Target: "sip.example.", Port: 5060, Priority: 1, Weight: 2}}, nil
}
func (zone) LookupTXT(context.Context, string) ([]string, error) {
	return []string{strings.Repeat("x", 300)}, nil
}
func (zone) LookupAddr(_ context.Context, addr string) ([]string, error) {
	return []string{"host-" + strings.ReplaceAll(addr, ".", "-") + ".example."}, nil
}

// ask sends one question from the guest, over "udp" or "tcp".
func ask(t *testing.T, g *testGuest, network string, query *dns.Msg) *dns.Msg {
	t.Helper()
	var c net.Conn
	var err error
	if network == "tcp" {
		c, err = g.dial(t, resolverPort.String())
	} else {
		at := fullAddress(resolverPort)
		c, err = gonet.DialUDP(g.net, nil, &at, ipv4.ProtocolNumber)
	}
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	wire := &dns.Conn{Conn: c, UDPSize: dns.MaxMsgSize}
	require.NoError(t, wire.WriteMsg(query))
	reply, err := wire.ReadMsg()
	require.NoError(t, err)
	require.Equal(t, query.Id, reply.Id)
	return reply
}

func question(name string, kind uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, kind) }

func TestNamesResolveThroughTheHost(t *testing.T) {
	_, g := newPair(t, Config{Policy: Policy{Internet: true}, Resolver: zone{}})
	long := strings.Repeat("x", 255) + `" "` + strings.Repeat("x", 45)
	tests := []struct {
		name string
		kind uint16
		code int
		want []string
	}{
		{"debian.example.", dns.TypeA, dns.RcodeSuccess, []string{
			"debian.example.	30	IN	A	203.0.113.5", "debian.example.	30	IN	A	203.0.113.6"}},
		{"debian.example.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"nowhere.example.", dns.TypeA, dns.RcodeNameError, nil},
		{"broken.example.", dns.TypeA, dns.RcodeServerFailure, nil},
		{"www.example.", dns.TypeCNAME, dns.RcodeSuccess, []string{"www.example.	30	IN	CNAME	debian.example."}},
		{"debian.example.", dns.TypeCNAME, dns.RcodeSuccess, nil},
		{"debian.example.", dns.TypeMX, dns.RcodeSuccess, []string{"debian.example.	30	IN	MX	10 mail.example."}},
		{"debian.example.", dns.TypeNS, dns.RcodeSuccess, nil},
		{"_sip._udp.example.", dns.TypeSRV, dns.RcodeSuccess, []string{"_sip._udp.example.	30	IN	SRV	1 2 5060 sip.example."}},
		{"debian.example.", dns.TypeTXT, dns.RcodeSuccess, []string{`debian.example.	30	IN	TXT	"` + long + `"`}},
		{"5.113.0.203.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, []string{
			"5.113.0.203.in-addr.arpa.	30	IN	PTR	host-203-0-113-5.example."}},
		{"1.1.168.192.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil},
		{"x.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil},
		{"debian.example.", dns.TypeHTTPS, dns.RcodeNotImplemented, nil},
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s over %s for %s", dns.TypeToString[test.kind], network, test.name), func(t *testing.T) {
				reply := ask(t, g, network, question(test.name, test.kind))
				require.Equal(t, test.code, reply.Rcode, dns.RcodeToString[reply.Rcode])
				var got []string
				for _, record := range reply.Answer {
					got = append(got, record.String())
				}
				require.Equal(t, test.want, got)
			})
		}
	}
}

func TestASealedVMGetsNoNames(t *testing.T) {
	_, g := newPair(t, Config{Resolver: zone{}})
	require.Equal(t, dns.RcodeRefused, ask(t, g, "udp", question("debian.example.", dns.TypeA)).Rcode)
}

func TestOddQuestionsAreRefused(t *testing.T) {
	_, g := newPair(t, Config{Policy: Policy{Internet: true}, Resolver: zone{}})
	chaos := question("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	require.Equal(t, dns.RcodeRefused, ask(t, g, "udp", chaos).Rcode)
	update := new(dns.Msg).SetUpdate("example.")
	require.Equal(t, dns.RcodeNotImplemented, ask(t, g, "udp", update).Rcode)
	two := question("debian.example.", dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	require.Equal(t, dns.RcodeRefused, ask(t, g, "udp", two).Rcode)
}

func TestAnswersFitWhatTheGuestTakes(t *testing.T) {
	_, g := newPair(t, Config{Policy: Policy{Internet: true}, Resolver: zone{}})
	plain := ask(t, g, "udp", question("many.example.", dns.TypeA))
	require.True(t, plain.Truncated)
	plain.Compress = true // as it was on the wire
	require.LessOrEqual(t, plain.Len(), dns.MinMsgSize)

	edns := question("many.example.", dns.TypeA).SetEdns0(4096, false)
	large := ask(t, g, "udp", edns)
	require.True(t, large.Truncated)
	require.Greater(t, len(large.Answer), len(plain.Answer))

	full := ask(t, g, "tcp", question("many.example.", dns.TypeA))
	require.False(t, full.Truncated)
	require.Len(t, full.Answer, 100)
}

// stuck is a resolver that never answers.
type stuck struct {
	zone
	asked chan struct{}
}

func (r stuck) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	r.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestQuestionsInFlightAreBounded(t *testing.T) {
	resolver := stuck{asked: make(chan struct{}, 100)}
	s, g := newPair(t, Config{Policy: Policy{Internet: true}, Resolver: resolver,
		Limits: Limits{Queries: 2, QueryTimeout: time.Hour}})
	at := fullAddress(resolverPort)
	c, err := gonet.DialUDP(g.net, nil, &at, ipv4.ProtocolNumber)
	require.NoError(t, err)
	defer c.Close()
	wire := &dns.Conn{Conn: c}
	for range 10 {
		require.NoError(t, wire.WriteMsg(question("debian.example.", dns.TypeA)))
	}
	<-resolver.asked
	<-resolver.asked
	require.NoError(t, s.Close(), "waits for both and for nothing else")
	require.Empty(t, resolver.asked)
}

// listening is a zone that tells which addresses it was asked for.
type listening struct {
	zone
	asked chan string
}

func (l listening) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	l.asked <- host
	return l.zone.LookupNetIP(ctx, network, host)
}

func FuzzAnswer(f *testing.F) {
	for _, kind := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeSRV, dns.TypePTR, dns.TypeANY} {
		raw, err := question("many.example.", kind).Pack()
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}) // a name that points at itself
	asked := make(chan string, 10)
	cfg := Config{Policy: Policy{Networks: []*Network{{
		Name: "office", Resolver: listening{zone{}, asked},
		Allow: []Entry{{Hosts: []string{"*.example"}}},
	}}}, Resolver: zone{}, HostAddrs: noHost}.withDefaults()
	restricted := &Stack{cfg: cfg, ctx: context.Background(), meter: cfg.Meter, names: cfg.Names}
	cfg = Config{Policy: Policy{Internet: true}, Resolver: zone{}, HostAddrs: noHost}.withDefaults()
	open := &Stack{cfg: cfg, ctx: context.Background(), meter: cfg.Meter, names: cfg.Names}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, s := range []*Stack{restricted, open} {
			query, reply := s.answerPacket(raw)
			if reply != nil {
				require.LessOrEqual(t, len(reply), packetSize(query))
			}
		}
		for len(asked) > 0 {
			require.Regexp(t, `(?i)^[a-z0-9._-]*\.example\.$`, <-asked, "only names of rules are asked for")
		}
	})
}
