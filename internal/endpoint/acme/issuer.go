// Package acme is the endpoint's certificates of a public authority, or of any other that speaks ACME (RFC 8555).
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
)

// LetsEncrypt is the directory that is used unless Config.Directory says otherwise.
const LetsEncrypt = certmagic.LetsEncryptProductionCA

// Config says what certificates are for and where they come from.
type Config struct {
	Domain    string         // the endpoints' domain, in lower case
	Directory string         // URL of the authority's directory; "" = LetsEncrypt
	Roots     *x509.CertPool // what the directory's own certificate is checked against; nil = the system's
	Email     string         // where the authority writes to, optional
	Folder    string         // keeps account, keys and certificates; files are made with mode 0600
	// DNSCommand is a program that makes and removes TXT records, as present.go says. With it there is
	// one certificate for *.Domain; without it one for every microVM, got at its first connection.
	DNSCommand string
	// Listen is where the endpoint listens: the authority connects to port 443 of each microVM's host
	// name, which must lead there. Used without DNSCommand only.
	Listen string
	// Known tells whether a host name is that of a microVM. No other gets a certificate.
	Known func(host string) bool
	Log   *slog.Logger

	renewEvery time.Duration // how often certificates are looked at; 0 = the library's own, 10 min
}

// Issuer gets certificates, keeps and renews them.
type Issuer struct {
	domain   string
	wildcard bool
	magic    *certmagic.Config
	cache    *certmagic.Cache
}

var errStranger = errors.New("no microVM has this name")

// New prepares an issuer. The authority is not asked before Run, or a client's handshake.
func New(cfg Config) (*Issuer, error) {
	if cfg.Directory == "" {
		cfg.Directory = LetsEncrypt
	}
	logger := newLogger(cfg.Log)
	i := &Issuer{domain: cfg.Domain, wildcard: cfg.DNSCommand != ""}
	// Apart, because the library would go on to serve a wildcard that it cannot renew without DNS.
	folder := filepath.Join(cfg.Folder, map[bool]string{true: "wildcard", false: "each"}[i.wildcard])
	i.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return i.magic, nil },
		RenewCheckInterval: cfg.renewEvery,
		Logger:             logger,
	})
	template := certmagic.Config{
		Storage: &certmagic.FileStorage{Path: folder},
		OnEvent: events{cfg.Log}.tell,
		Logger:  logger,
	}
	if !i.wildcard {
		template.OnDemand = &certmagic.OnDemandConfig{DecisionFunc: func(_ context.Context, host string) error {
			if !cfg.Known(host) {
				return errStranger
			}
			return nil
		}}
	}
	i.magic = certmagic.New(i.cache, template)
	account := certmagic.ACMEIssuer{
		CA: cfg.Directory, TrustedRoots: cfg.Roots, Email: cfg.Email, Logger: logger,
		Agreed:               true, // who asks for certificates accepts the terms: the flag says so
		DisableHTTPChallenge: true, // nothing here listens on port 80
	}
	if i.wildcard {
		account.DNS01Solver = command(cfg.DNSCommand)
		account.DisableTLSALPNChallenge = true // it cannot prove a wildcard
	} else if err := ourListener(&account, cfg.Listen); err != nil {
		i.cache.Stop()
		return nil, err
	}
	i.magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(i.magic, account)}
	return i, nil
}

// ourListener has the library find the port in use and leave the challenge to GetCertificate.
func ourListener(account *certmagic.ACMEIssuer, listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("find the port for ACME challenges: %w", err)
	}
	account.ListenHost = host
	account.AltTLSALPNPort, err = strconv.Atoi(port)
	if err != nil || account.AltTLSALPNPort == 0 {
		return fmt.Errorf("find the port for ACME challenges: %q is none", port)
	}
	return nil
}

// Protocols are what the endpoint must agree to speak, so that the authority's challenges are heard.
func (i *Issuer) Protocols() []string {
	if i.wildcard {
		return nil
	}
	return []string{acmez.ACMETLS1Protocol}
}

// GetCertificate is for tls.Config. With a wildcard everybody gets the same certificate, so that a
// handshake does not tell which microVMs there are. Without, a name of no microVM fails the
// handshake, and that of one may wait for the authority.
func (i *Issuer) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if i.wildcard {
		same := *hello
		same.ServerName = "any." + i.domain
		hello = &same
	}
	return i.magic.GetCertificate(hello)
}

// Run gets the wildcard and renews what is there, until ctx ends. What fails is logged and tried again.
func (i *Issuer) Run(ctx context.Context) error {
	defer i.cache.Stop()
	if i.wildcard {
		if err := i.magic.ManageAsync(ctx, []string{"*." + i.domain}); err != nil {
			return fmt.Errorf("get the certificate of *.%s: %w", i.domain, err)
		}
	}
	<-ctx.Done()
	return nil
}
