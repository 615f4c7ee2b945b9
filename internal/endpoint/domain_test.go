package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// inDomain makes a world whose VM has no address and whose domain is not localhost.
func inDomain(t *testing.T, domain string) *world {
	t.Helper()
	w := newWorldWith(t, func(cfg *Config) { cfg.Mode, cfg.Domain = ModeDomain, domain })
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, r.Host) }))
	return w
}

func TestInModeDomainAVMIsReachedByItsNameOnly(t *testing.T) {
	w := inDomain(t, "vms.test")
	w.vmAddr = netip.MustParseAddr("127.0.0.1") // where the client connects to
	for name, c := range map[string]struct {
		host string
		want *answer // nil = the app's
	}{
		"its name":                  {testEndpoint + ".vms.test", nil},
		"its name with a port":      {testEndpoint + ".vms.test:7443", nil},
		"its name in capitals":      {strings.ToUpper(testEndpoint) + ".VMS.test", nil},
		"a name of no VM":           {uuid.NewString() + ".vms.test", &authFailed},
		"its label elsewhere":       {testEndpoint + ".example.org", &authFailed},
		"its label in localhost":    {testEndpoint + ".localhost", &authFailed},
		"the domain":                {"vms.test", &authFailed},
		"the listener's address":    {"127.0.0.1", &authFailed},
		"an address of ip mode":     {"127.64.0.1", &authFailed},
		"a longer name":             {"x." + testEndpoint + ".vms.test", &authFailed},
		"its label and more":        {testEndpoint + ".vms.test.example.org", &authFailed},
		"something that is no host": {"..", &authFailed},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.request(t, http.MethodGet, "/")
			r.Host = c.host
			client := w.client(t)
			client.Transport.(*http.Transport).TLSClientConfig.ServerName = testHost // whatever the handshake says
			res, body := get(t, client, r)
			if c.want != nil {
				requireAnswer(t, *c.want, res, body)
				return
			}
			require.Equal(t, http.StatusOK, res.StatusCode)
			require.Equal(t, c.host, body, "the app sees the host as it was asked for")
		})
	}
}

// Whoever connects must not learn from the handshake whether a VM exists.
func TestTheHandshakeIsTheSameForNamesOfVMsAndOthers(t *testing.T) {
	w := inDomain(t, "localhost")
	for _, name := range []string{testHost, uuid.NewString() + ".localhost"} {
		conn, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: name})
		require.NoError(t, err, name)
		require.Equal(t, []string{name}, conn.ConnectionState().PeerCertificates[0].DNSNames)
		require.NoError(t, conn.Close())
	}
	for _, name := range []string{"www.example.org", "", "localhost"} {
		conn, err := tls.Dial("tcp", w.general, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		require.NoError(t, err, "a stranger's handshake works, too")
		require.NoError(t, conn.Close())
	}
}

// Browsers use one HTTP/2 connection for all names that a certificate covers and that lead to one address.
func TestOneConnectionServesSeveralNames(t *testing.T) {
	w := inDomain(t, "localhost")
	dials := 0
	transport := w.transport(t, "h2")
	transport.TLSClientConfig.ServerName = "any.localhost"
	transport.TLSClientConfig.VerifyConnection = func(tls.ConnectionState) error { dials++; return nil }
	client := &http.Client{Transport: transport, Timeout: 3 * wait}
	for host, want := range map[string]*answer{testHost: nil, uuid.NewString() + ".localhost": &authFailed} {
		r := w.request(t, http.MethodGet, "/")
		r.URL.Host, r.Host = "any.localhost", host
		res, body := get(t, client, r)
		require.Equal(t, 2, res.ProtoMajor)
		if want != nil {
			requireAnswer(t, *want, res, body)
		} else {
			require.Equal(t, host, body)
		}
	}
	require.Equal(t, 1, dials)
}

func TestInModeIPTheGeneralListenerGoesByName(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	res, _ := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
	require.Equal(t, http.StatusOK, res.StatusCode)
}

func TestNamesAreThoseOfVMs(t *testing.T) {
	w := &world{vm: newFakeVM(testVM)}
	known := Names(w, "vms.example.org")
	require.True(t, known(testEndpoint+".vms.example.org"))
	require.False(t, known(testEndpoint+".example.org"))
	require.False(t, known(uuid.NewString()+".vms.example.org"))
	require.False(t, known("vms.example.org"))
}

func TestMoreProtocolsAreNegotiatedBesideHTTP(t *testing.T) {
	w := newWorldWith(t, func(cfg *Config) { cfg.Protocols = []string{"acme-tls/1"} })
	for _, protocol := range []string{"h2", "http/1.1", "acme-tls/1"} {
		conn, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: testHost, NextProtos: []string{protocol}})
		require.NoError(t, err)
		require.Equal(t, protocol, conn.ConnectionState().NegotiatedProtocol)
		require.NoError(t, conn.Close())
	}
	var untrusted *tls.CertificateVerificationError
	_, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: testHost})
	require.ErrorAs(t, err, &untrusted)
	var alert *net.OpError
	_, err = tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: testHost, NextProtos: []string{"spdy/1"}})
	require.ErrorAs(t, err, &alert)
}
