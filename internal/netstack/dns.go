package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

const (
	// maxQuery bounds one question, in bytes; real ones have under 300.
	maxQuery = 1400
	// maxPacketAnswer is the largest answer in one packet, for a guest that says it takes that
	// much (EDNS): what fits an Ethernet frame safely, dnsflagday.net/2020.
	maxPacketAnswer = 1232
	// dnsIdle closes a TCP connection to the resolver that asks nothing.
	dnsIdle = 10 * time.Second
	// answerTTL is short, because the host's resolver does not say how long its answers hold.
	answerTTL = 30 // seconds
)

// serveDNSPackets answers questions over UDP. Beyond Limits.Queries in flight they are dropped; the
// guest asks again.
func (s *Stack) serveDNSPackets(socket *gonet.UDPConn) {
	defer socket.Close()
	stop := closeWith(s.ctx, socket)
	defer stop()
	packet := make([]byte, maxQuery)
	for {
		n, from, err := socket.ReadFrom(packet)
		if err != nil {
			return
		}
		select {
		case s.queries <- struct{}{}:
		default:
			continue
		}
		raw := bytes.Clone(packet[:n])
		s.start(func() {
			defer func() { <-s.queries }()
			if _, reply := s.answerPacket(raw); reply != nil {
				_, _ = socket.WriteTo(reply, from) // the guest asks again
			}
		})
	}
}

// answerPacket answers what the guest says is a question; nil if it is none.
func (s *Stack) answerPacket(raw []byte) (query *dns.Msg, reply []byte) {
	query = new(dns.Msg)
	if query.Unpack(raw) != nil || query.Response {
		return nil, nil
	}
	answer := s.answer(query)
	answer.Truncate(packetSize(query))
	reply, err := answer.Pack()
	if err != nil {
		return query, nil
	}
	return query, reply
}

// packetSize is how large an answer over UDP may be.
func packetSize(query *dns.Msg) int {
	if edns := query.IsEdns0(); edns != nil {
		return min(max(int(edns.UDPSize()), dns.MinMsgSize), maxPacketAnswer)
	}
	return dns.MinMsgSize
}

// serveDNSStream answers questions over one TCP connection, one after the other.
func (s *Stack) serveDNSStream(c net.Conn) {
	defer c.Close()
	stop := closeWith(s.ctx, c)
	defer stop()
	for {
		if c.SetDeadline(time.Now().Add(dnsIdle)) != nil {
			return
		}
		query, err := readQuery(c)
		if err != nil {
			return
		}
		reply := s.answer(query)
		reply.Truncate(dns.MaxMsgSize)
		raw, err := reply.Pack()
		if err != nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)); err != nil {
			return
		}
	}
}

func readQuery(r io.Reader) (*dns.Msg, error) {
	var size uint16
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	if size > maxQuery {
		return nil, errors.New("DNS question too long")
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	query := new(dns.Msg)
	if err := query.Unpack(raw); err != nil {
		return nil, err
	}
	if query.Response {
		return nil, errors.New("DNS answer where a question was expected")
	}
	return query, nil
}

// answer asks whoever answers for the name. Names that no rule needs get REFUSED: they would be a
// way out.
func (s *Stack) answer(query *dns.Msg) *dns.Msg {
	reply := new(dns.Msg)
	switch {
	case query.Opcode != dns.OpcodeQuery:
		return reply.SetRcode(query, dns.RcodeNotImplemented)
	case len(query.Question) != 1 || query.Question[0].Qclass != dns.ClassINET:
		return reply.SetRcode(query, dns.RcodeRefused)
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.QueryTimeout)
	defer cancel()
	question := query.Question[0]
	records, code := s.resolve(ctx, question)
	if code == dns.RcodeRefused {
		return refuse(reply.SetRcode(query, code), query)
	}
	reply.SetRcode(query, code)
	reply.RecursionAvailable = true
	for _, record := range records {
		*record.Header() = dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: answerTTL}
		reply.Answer = append(reply.Answer, record)
	}
	if edns := query.IsEdns0(); edns != nil {
		reply.SetEdns0(maxPacketAnswer, false)
	}
	return reply
}

// refuse says in a refusal that it is for a rule (RFC 8914), to those who can be told.
func refuse(reply, query *dns.Msg) *dns.Msg {
	if query.IsEdns0() != nil {
		reply.SetEdns0(maxPacketAnswer, false)
		edns := reply.IsEdns0()
		edns.Option = append(edns.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeProhibited})
	}
	return reply
}

// resolve returns records without their headers, if the policy has somebody answer the question.
func (s *Stack) resolve(ctx context.Context, question dns.Question) ([]dns.RR, int) {
	if question.Qtype == dns.TypePTR {
		return s.lookupPTR(ctx, question.Name)
	}
	name, plain := plainName(question.Name)
	resolver, byName, ok := s.cfg.Policy.resolver(name, s.cfg.Resolver)
	if !ok || byName && !plain {
		s.deny(Denial{Name: name, Rule: s.cfg.Policy.unlisted(netip.Addr{})})
		return nil, dns.RcodeRefused
	}
	if question.Qtype == dns.TypeA {
		found, err := resolver.LookupNetIP(ctx, "ip4", question.Name)
		if err == nil {
			found = s.fit(found, name, byName)
		}
		return records(found, err, func(a netip.Addr) dns.RR { return &dns.A{A: a.AsSlice()} })
	}
	return lookup(ctx, resolver, question)
}

// fit returns those of a name's addresses that the guest may reach, and remembers them where it may
// reach them because of the name. A name may lead anywhere: 127.0.0.1, or an address of the host.
func (s *Stack) fit(found []netip.Addr, name string, byName bool) (fitting []netip.Addr) {
	host, err := s.cfg.HostAddrs()
	for _, a := range found {
		a, rule := a.Unmap(), RuleHost // not knowing which addresses are the host's, none is safe
		if err == nil {
			rule = s.cfg.Policy.reachable(a, []string{name}, host)
		}
		if !a.Is4() {
			continue
		}
		if rule != allowed {
			s.deny(Denial{Name: name, Answer: true, Rule: rule})
			continue
		}
		if byName {
			s.names.learn(a, name, s.cfg.Clock.Now())
		}
		fitting = append(fitting, a)
	}
	return fitting
}

// lookup returns records without their headers.
func lookup(ctx context.Context, resolver Resolver, question dns.Question) ([]dns.RR, int) {
	name := question.Name
	switch question.Qtype {
	case dns.TypeAAAA:
		return nil, dns.RcodeSuccess // the guest has IPv4 only
	case dns.TypeCNAME:
		return lookupCNAME(ctx, resolver, name)
	case dns.TypeTXT:
		found, err := resolver.LookupTXT(ctx, name)
		return noData(records(found, err, func(text string) dns.RR { return &dns.TXT{Txt: chunks(text)} }))
	case dns.TypeMX:
		found, err := resolver.LookupMX(ctx, name)
		return noData(records(found, err, func(mx *net.MX) dns.RR { return &dns.MX{Preference: mx.Pref, Mx: dns.Fqdn(mx.Host)} }))
	case dns.TypeNS:
		found, err := resolver.LookupNS(ctx, name)
		return noData(records(found, err, func(ns *net.NS) dns.RR { return &dns.NS{Ns: dns.Fqdn(ns.Host)} }))
	case dns.TypeSRV:
		_, found, err := resolver.LookupSRV(ctx, "", "", name)
		return noData(records(found, err, func(srv *net.SRV) dns.RR {
			return &dns.SRV{Priority: srv.Priority, Weight: srv.Weight, Port: srv.Port, Target: dns.Fqdn(srv.Target)}
		}))
	}
	return nil, dns.RcodeNotImplemented
}

func lookupCNAME(ctx context.Context, resolver Resolver, name string) ([]dns.RR, int) {
	target, err := resolver.LookupCNAME(ctx, name)
	if err == nil && strings.EqualFold(dns.Fqdn(target), name) {
		return nil, dns.RcodeSuccess // the name is its own canonical name: no such record
	}
	return noData(records([]string{target}, err, func(target string) dns.RR { return &dns.CNAME{Target: dns.Fqdn(target)} }))
}

// lookupPTR names only addresses the guest may reach: the others are the host's private matter.
func (s *Stack) lookupPTR(ctx context.Context, name string) ([]dns.RR, int) {
	a, ok := reversed(name)
	host, err := s.cfg.HostAddrs()
	if !ok || err != nil {
		return nil, dns.RcodeNameError
	}
	names := s.names.of(a, s.cfg.Clock.Now())
	if s.cfg.Policy.reachable(a, names, host) != allowed {
		return nil, dns.RcodeNameError
	}
	found, err := s.cfg.Policy.reverseResolver(a, names, s.cfg.Resolver).LookupAddr(ctx, a.String())
	return records(found, err, func(name string) dns.RR { return &dns.PTR{Ptr: dns.Fqdn(name)} })
}

// reversed reads an address from its name under in-addr.arpa.
func reversed(name string) (netip.Addr, bool) {
	digits, ok := strings.CutSuffix(strings.ToLower(name), ".in-addr.arpa.")
	if !ok {
		return netip.Addr{}, false
	}
	turned, err := netip.ParseAddr(digits)
	if err != nil || !turned.Is4() {
		return netip.Addr{}, false
	}
	b := turned.As4()
	return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}), true
}

// records turns what a resolver found, or why it found nothing, into records and a response code.
func records[T any](found []T, err error, record func(T) dns.RR) ([]dns.RR, int) {
	var failure *net.DNSError
	switch {
	case errors.As(err, &failure) && failure.IsNotFound:
		return nil, dns.RcodeNameError
	case err != nil:
		return nil, dns.RcodeServerFailure
	}
	out := make([]dns.RR, len(found))
	for i, f := range found {
		out[i] = record(f)
	}
	return out, dns.RcodeSuccess
}

// noData says "no such record" instead of "no such name": the host's resolver does not tell them
// apart, and the second would hide the name's addresses from the guest.
func noData(found []dns.RR, code int) ([]dns.RR, int) {
	if code == dns.RcodeNameError {
		return nil, dns.RcodeSuccess
	}
	return found, code
}

// chunks cuts a text into strings of at most 255 bytes, which is all one of them holds (RFC 1035 3.3).
func chunks(text string) []string {
	var out []string
	for len(text) > 255 {
		out, text = append(out, text[:255]), text[255:]
	}
	return append(out, text)
}

// closeWith closes c when ctx ends, unless stop is called before.
func closeWith(ctx context.Context, c io.Closer) (stop func() bool) {
	return context.AfterFunc(ctx, func() { c.Close() })
}
