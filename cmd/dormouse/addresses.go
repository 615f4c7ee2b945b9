package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/jonboulle/clockwork"
	"github.com/miekg/dns"
	"github.com/spf13/pflag"

	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/endpoint/acme"
	"github.com/dormouse-dev/dormouse/internal/endpoint/certfile"
	"github.com/dormouse-dev/dormouse/internal/endpoint/localca"
)

// acmeFolder is where in the data folder account, keys and certificates of an authority are.
const acmeFolder = "acme"

// addresses are the flags of serve that say how clients find a microVM, and why they trust it.
type addresses struct {
	listen string
	mode   string
	domain string
	// Certificates of the operator's own, and what clients check them, or those of ACME, against.
	cert, key, ca string
	acme          acmeFlags
}

// acmeFlags say how certificates are got from an authority.
type acmeFlags struct {
	domain, directory, email, ca, dnsCommand string
}

func (a *addresses) addFlags(f *pflag.FlagSet) {
	f.StringVar(&a.listen, "listen-endpoint", endpoint.DefaultListen, "address of microVM endpoints")
	f.StringVar(&a.mode, "endpoint-mode", string(endpoint.ModeAuto), `how clients name a microVM: ip (an address of its own in 127/8, on the same port), domain
(<endpoint id>.<endpoint domain>), or auto: ip on a loopback listener, else domain`)
	f.StringVar(&a.domain, "endpoint-domain", endpoint.DefaultDomain, "domain of which each microVM's endpoint id is a host name")
	f.StringVar(&a.cert, "endpoint-cert", "", "certificate for *.<endpoint domain> with its chain (PEM), instead of a local CA's; read again when it changes")
	f.StringVar(&a.key, "endpoint-key", "", "its key (PEM)")
	f.StringVar(&a.ca, "endpoint-ca", "", "what clients are to check that certificate against (PEM), or one by ACME; the system's authorities by default")
	f.StringVar(&a.acme.domain, "acme-domain", "", "endpoint domain to get certificates for by ACME; this accepts the authority's terms of service")
	f.StringVar(&a.acme.directory, "acme-directory", acme.LetsEncrypt, "URL of the authority's ACME directory")
	f.StringVar(&a.acme.email, "acme-email", "", "where the authority writes to")
	f.StringVar(&a.acme.ca, "acme-ca", "", "what the directory's own certificate is checked against (PEM); the system's authorities by default")
	f.StringVar(&a.acme.dnsCommand, "acme-dns-command", "", `program that makes and removes the TXT records that prove the domain, for a wildcard certificate;
without it each microVM gets a certificate of its own (docs/networking.md)`)
}

// settled are the flags, checked against each other, with everything that is left open decided.
func (a addresses) settled() (addresses, error) {
	if a.acme.domain != "" {
		if a.domain != endpoint.DefaultDomain && !strings.EqualFold(a.domain, a.acme.domain) {
			return a, usagef("--endpoint-domain %s is not the one of --acme-domain %s", a.domain, a.acme.domain)
		}
		a.domain = a.acme.domain
	}
	a.domain = strings.ToLower(strings.TrimSuffix(a.domain, "."))
	if _, ok := dns.IsDomainName(a.domain); !ok || a.domain == "" || strings.ContainsAny(a.domain, "*/: ") {
		return a, usagef("--endpoint-domain %q is no domain", a.domain)
	}
	if err := a.compatible(); err != nil {
		return a, err
	}
	mode := endpoint.Mode(a.mode)
	if mode == endpoint.ModeAuto && a.public() {
		mode = endpoint.ModeDomain
	}
	mode, err := mode.Resolve(a.listen)
	if err != nil {
		return a, usagef("--endpoint-mode %s with --listen-endpoint %s: %v", a.mode, a.listen, err)
	}
	if mode == endpoint.ModeIP && a.public() {
		return a, usagef("--endpoint-mode ip: nobody issues certificates for addresses in %s; --endpoint-cert and --acme-domain need --endpoint-mode domain", endpoint.AddrPool)
	}
	a.mode = string(mode)
	return a, nil
}

// compatible refuses flags that contradict each other or miss one another.
func (a addresses) compatible() error {
	switch {
	case (a.cert == "") != (a.key == ""):
		return usagef("--endpoint-cert and --endpoint-key need each other")
	case a.cert != "" && a.acme.domain != "":
		return usagef("certificates come from --endpoint-cert or by --acme-domain, not both")
	case a.ca != "" && !a.public():
		return usagef("--endpoint-ca is for certificates of --endpoint-cert or --acme-domain; the local CA makes its own")
	case a.acme.domain == "" && (a.acme.email != "" || a.acme.ca != "" || a.acme.dnsCommand != "" || a.acme.directory != acme.LetsEncrypt):
		return usagef("--acme-directory, --acme-email, --acme-ca and --acme-dns-command need --acme-domain")
	}
	return nil
}

// public tells whether certificates come from anybody but the local CA.
func (a addresses) public() bool { return a.cert != "" || a.acme.domain != "" }

func (a addresses) endpointMode() endpoint.Mode { return endpoint.Mode(a.mode) }

// certificates are what an endpoint's listeners need of where theirs come from.
type certificates struct {
	get       func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	protocols []string
	// maintain keeps them fresh until ctx ends.
	maintain func(ctx context.Context) error
	// clientCA is the file that clients check them against; "" = the system's.
	clientCA string
}

// certificates opens their source. known tells which host names are those of microVMs.
func (a addresses) certificates(dataDir string, known func(string) bool, clock clockwork.Clock, log *slog.Logger) (*certificates, error) {
	ca, err := absolute(a.ca)
	if err != nil {
		return nil, err
	}
	switch {
	case a.cert != "":
		pair, err := certfile.Open(a.cert, a.key, "any."+a.domain, clock, log)
		if err != nil {
			return nil, fmt.Errorf("--endpoint-cert: %w", err)
		}
		watch := func(ctx context.Context) error { pair.Watch(ctx); return nil }
		return &certificates{get: pair.GetCertificate, maintain: watch, clientCA: ca}, nil
	case a.acme.domain != "":
		roots, err := readRoots(a.acme.ca)
		if err != nil {
			return nil, fmt.Errorf("--acme-ca: %w", err)
		}
		issuer, err := acme.New(acme.Config{
			Domain: a.domain, Directory: a.acme.directory, Roots: roots, Email: a.acme.email, DNSCommand: a.acme.dnsCommand,
			Folder: filepath.Join(dataDir, acmeFolder), Listen: a.listen, Known: known, Log: log,
		})
		if err != nil {
			return nil, fmt.Errorf("--acme-domain: %w", err)
		}
		return &certificates{get: issuer.GetCertificate, protocols: issuer.Protocols(), maintain: issuer.Run, clientCA: ca}, nil
	}
	if open, _ := endpoint.ModeAuto.Resolve(a.listen); open == endpoint.ModeDomain && a.domain == endpoint.DefaultDomain {
		log.Warn("endpoints are open to other machines, which look for names in the domain localhost at themselves: set --endpoint-domain")
	}
	authority, err := localca.Open(dataDir, localca.Scope{Domains: []string{a.domain}}, clock)
	if err != nil {
		return nil, err
	}
	rest := func(ctx context.Context) error { <-ctx.Done(); return nil }
	return &certificates{get: authority.GetCertificate, maintain: rest, clientCA: filepath.Join(dataDir, localca.CertFile)}, nil
}

// absolute is a path for those who work in other folders.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// readRoots reads certificates to trust; nil of no file.
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return roots, nil
}
