// Package connection finds a daemon and calls it as any AWS client would.
package connection

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	api "github.com/dormouse-dev/dormouse/internal/awsapi/client"
	extension "github.com/dormouse-dev/dormouse/internal/extension/client"
)

// Connection calls one server with the keys of one account.
type Connection struct {
	Settings
	API       *api.Client
	Extension *extension.Client // events, logs, details: what the AWS API does not tell
}

// New makes a connection; nothing is sent yet.
func New(s Settings) *Connection {
	client := api.New(s.API, s.Region, s.AccessKeyID, s.SecretAccessKey)
	return &Connection{Settings: s, API: client, Extension: extension.New(client)}
}

// Endpoints is an HTTP client for the endpoints of microVMs. It trusts the daemon's CA, if there is
// one, beside those of the system.
func (c *Connection) Endpoints() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.DisableCompression = true // what the app sends is shown as it is
	transport.Proxy = func(r *http.Request) (*url.URL, error) {
		if strings.HasSuffix(r.URL.Hostname(), ".localhost") {
			return nil, nil
		}
		return http.ProxyFromEnvironment(r) // which leaves loopback addresses alone
	}
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, onLoopback(address))
		if here := c.besidesDNS(err); here != "" {
			return dial(ctx, network, here)
		}
		return conn, err
	}
	if c.CABundle != "" {
		text, err := os.ReadFile(c.CABundle)
		if err != nil {
			return nil, fmt.Errorf("read the CA of the endpoints: %w", err)
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate", c.CABundle)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// onLoopback sends names below .localhost to loopback, as RFC 6761 (6.3) says; not every resolver does.
func onLoopback(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err == nil && strings.HasSuffix(host, ".localhost") {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// besidesDNS is where a microVM is reached whose name cannot be resolved: on the machine of the daemon a
// domain works before it is in the DNS. Who answers there must have a certificate for the name.
func (c *Connection) besidesDNS(err error) (address string) {
	var unresolved *net.DNSError
	if !errors.As(err, &unresolved) || c.Endpoint == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(c.Endpoint)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// Unreachable tells whether err says that nobody answered at all, and where, if that has an address.
func Unreachable(err error) (address string, is bool) {
	var network *net.OpError
	if !errors.As(err, &network) || network.Op != "dial" {
		return "", false
	}
	if network.Addr != nil {
		address = network.Addr.String()
	}
	return address, true
}
