// Package localca is the certificate authority a Dormouse makes for itself, so that endpoints speak TLS without any set-up.
package localca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jonboulle/clockwork"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 90 * 24 * time.Hour
	// renewBefore is how long before its end a leaf is replaced by a new one.
	renewBefore = 24 * time.Hour
	// clockSkew is how far behind a client's clock may be.
	clockSkew = time.Hour
	// cachedLeaves bounds the certificates kept, about 1.5 KiB each. Minting takes about 0.1 ms.
	cachedLeaves = 4096
)

// Scope is all an authority may vouch for, besides localhost and 127.0.0.0/8. It is written into its
// certificate as critical name constraints: whoever trusts it trusts it for nothing else.
type Scope struct {
	Domains []string       // lower case, each with everything below it
	Nets    []netip.Prefix // IP addresses
}

// withLoopback adds what is always in scope. It also keeps both lists from being empty, which in a
// certificate would mean no constraint at all.
func (s Scope) withLoopback() Scope {
	return Scope{
		Domains: append([]string{"localhost"}, s.Domains...),
		Nets:    append([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, s.Nets...),
	}
}

// Authority signs certificates for the hosts clients ask for. It is safe for concurrent use.
type Authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	clock  clockwork.Clock
	leaves *lru.Cache[string, *tls.Certificate]
	// leafKey is shared by all leaves: they are all served by this process, and it ends with it.
	leafKey *ecdsa.PrivateKey
}

// GetCertificate is for tls.Config. The certificate is for the name the client asks for or, as
// clients send no name when they connect to an IP address, for the address they connected to.
// What is outside the scope gets one for localhost, which a client that checks will refuse.
func (a *Authority) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if host == "" {
		if tcp, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok {
			host = tcp.AddrPort().Addr().Unmap().String()
		}
	}
	if !a.Covers(host) {
		host = "localhost"
	}
	if leaf, ok := a.leaves.Get(host); ok && a.clock.Now().Before(leaf.Leaf.NotAfter.Add(-renewBefore)) {
		return leaf, nil
	}
	leaf, err := a.sign(host)
	if err != nil {
		return nil, fmt.Errorf("sign certificate for %q: %w", host, err)
	}
	a.leaves.Add(host, leaf)
	return leaf, nil
}

// Covers tells whether the authority may vouch for a host name in lower case or an IP address.
func (a *Authority) Covers(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		for _, permitted := range a.cert.PermittedIPRanges {
			if permitted.Contains(ip) {
				return true
			}
		}
		return false
	}
	for _, domain := range a.cert.PermittedDNSDomains {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return false
}

func newAuthority(cert *x509.Certificate, key *ecdsa.PrivateKey, clock clockwork.Clock) (*Authority, error) {
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	leaves, err := lru.New[string, *tls.Certificate](cachedLeaves)
	if err != nil {
		return nil, fmt.Errorf("make certificate cache: %w", err)
	}
	return &Authority{cert: cert, key: key, clock: clock, leaves: leaves, leafKey: leafKey}, nil
}

func (a *Authority) sign(host string) (*tls.Certificate, error) {
	now := a.clock.Now()
	template := &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"Dormouse"}},
		NotBefore:   now.Add(-clockSkew),
		NotAfter:    now.Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.leafKey.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.leafKey, Leaf: leaf}, nil
}

// generate makes the authority's own key and self-signed certificate (DER).
func generate(scope Scope, now time.Time) (key *ecdsa.PrivateKey, der []byte, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		Subject:                     pkix.Name{Organization: []string{"Dormouse"}, CommonName: "Dormouse local CA"},
		NotBefore:                   now.Add(-clockSkew),
		NotAfter:                    now.Add(authorityLife),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         scope.Domains,
	}
	for _, prefix := range scope.Nets {
		template.PermittedIPRanges = append(template.PermittedIPRanges, &net.IPNet{
			IP:   prefix.Masked().Addr().AsSlice(),
			Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		})
	}
	der, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return key, der, err
}
