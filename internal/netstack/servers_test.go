package netstack

import (
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// serveNames is a DNS server that knows one name.
func serveNames(t *testing.T, name, addr string) netip.AddrPort {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &dns.Server{PacketConn: socket, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetReply(query)
		if q := query.Question[0]; q.Name == name && q.Qtype == dns.TypeA {
			record, err := dns.NewRR(name + " 60 IN A " + addr)
			if err == nil {
				reply.Answer = append(reply.Answer, record)
			}
		} else {
			reply.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(reply)
	})}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { require.NoError(t, server.Shutdown()) })
	return socket.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestTheServersOfANetworkAreAsked(t *testing.T) {
	server := serveNames(t, "db.corp.example.", "10.1.2.3")
	// A port that nobody listens on refuses; the server after it is asked then.
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	silent := gone.LocalAddr().(*net.UDPAddr).AddrPort()
	require.NoError(t, gone.Close())
	for _, servers := range [][]netip.AddrPort{{server}, {silent, server}} {
		r := AskServers(servers)
		for range 2 {
			found, err := r.LookupNetIP(t.Context(), "ip4", "db.corp.example.")
			require.NoError(t, err)
			require.Equal(t, []netip.Addr{netip.MustParseAddr("10.1.2.3")}, found)
		}
		_, err := r.LookupNetIP(t.Context(), "ip4", "other.corp.example.")
		var missing *net.DNSError
		require.ErrorAs(t, err, &missing)
		require.True(t, missing.IsNotFound)
	}
}

func TestQuestionsThatFailTogetherPassOneServerOver(t *testing.T) {
	server := serveNames(t, "db.corp.example.", "10.1.2.3")
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	list := &serverList{servers: []netip.AddrPort{silent.LocalAddr().(*net.UDPAddr).AddrPort(), server}}
	var asked []net.Conn
	for range 2 {
		c, err := list.dial(t.Context(), "udp", "")
		require.NoError(t, err)
		asked = append(asked, c)
	}
	for _, c := range asked {
		require.NoError(t, c.Close())
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
	}
	c, err := list.dial(t.Context(), "udp", "")
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, net.UDPAddrFromAddrPort(server), c.RemoteAddr(), "and not the silent one again")
}
