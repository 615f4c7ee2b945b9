// Package certfile is a certificate in files that somebody else renews: it is checked, served, and read again when the files change.
package certfile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

const (
	// LookEvery is how often the files are looked at: two stat calls.
	LookEvery = 10 * time.Second
	// warnBefore is how long before the end of a certificate the log begins to say so, once a day.
	// Let's Encrypt's clients renew 30 days before it.
	warnBefore = 14 * 24 * time.Hour
	warnEvery  = 24 * time.Hour
)

// Pair is a certificate with its chain and its key, both PEM. It is safe for concurrent use.
type Pair struct {
	certFile, keyFile string
	host              string // in the certificate must be a name that covers it
	clock             clockwork.Clock
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]

	// Of the one goroutine that is in Watch.
	seen   [2]stamp // of the files at the last attempt to read them
	warned time.Time
}

// stamp tells versions of a file apart. Files that are replaced by a rename have another time, and
// so have those behind a symbolic link that is changed.
type stamp struct {
	modified time.Time
	size     int64
}

// Open reads the files. The certificate must be valid now and cover host; whether anybody trusts it
// is for clients to say.
func Open(certFile, keyFile, host string, clock clockwork.Clock, log *slog.Logger) (*Pair, error) {
	p := &Pair{certFile: certFile, keyFile: keyFile, host: host, clock: clock, log: log}
	seen, err := p.look()
	if err != nil {
		return nil, fmt.Errorf("read the endpoint certificate: %w", err)
	}
	p.seen = seen
	if err := p.read(); err != nil {
		return nil, err
	}
	return p, nil
}

// GetCertificate is for tls.Config. Everybody gets the same one, whatever name is asked for.
func (p *Pair) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return p.current.Load(), nil
}

// Watch reads the files again when they have changed, until ctx ends. What cannot be served is
// logged once, and the certificate from before stays.
func (p *Pair) Watch(ctx context.Context) {
	ticker := p.clock.NewTicker(LookEvery)
	defer ticker.Stop()
	for {
		p.warn()
		select {
		case <-ctx.Done():
			return
		case <-ticker.Chan():
			p.refresh()
		}
	}
}

// refresh reads the files if they have changed since the last attempt.
func (p *Pair) refresh() {
	seen, err := p.look()
	if err != nil {
		seen = [2]stamp{} // a file that comes back is a change
	}
	if seen == p.seen {
		return
	}
	p.seen = seen
	if err == nil {
		err = p.read()
	}
	if err != nil {
		p.log.Error("the new endpoint certificate is not used; the one from before stays", "error", err)
		return
	}
	p.warned = time.Time{}
	p.log.Info("endpoint certificate read", "file", p.certFile, "until", p.current.Load().Leaf.NotAfter)
}

// warn says when the certificate is about to end, or has.
func (p *Pair) warn() {
	now, leaf := p.clock.Now(), p.current.Load().Leaf
	if left := leaf.NotAfter.Sub(now); left < warnBefore && now.Sub(p.warned) >= warnEvery {
		p.warned = now
		p.log.Warn("the endpoint certificate ends soon: put a new one into its files", "file", p.certFile, "until", leaf.NotAfter)
	}
}

func (p *Pair) look() (seen [2]stamp, err error) {
	for i, path := range []string{p.certFile, p.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return [2]stamp{}, err
		}
		if !info.Mode().IsRegular() {
			return [2]stamp{}, &fs.PathError{Op: "read", Path: path, Err: errors.New("no file")}
		}
		seen[i] = stamp{info.ModTime(), info.Size()}
	}
	return seen, nil
}

// read takes the files' content into use, if it can be.
func (p *Pair) read() error {
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return fmt.Errorf("read the endpoint certificate %s with the key %s: %w", p.certFile, p.keyFile, err)
	}
	if err := fits(pair.Leaf, p.host, p.clock.Now()); err != nil {
		return fmt.Errorf("the endpoint certificate %s %w", p.certFile, err)
	}
	p.current.Store(&pair)
	return nil
}

// fits reports in what way a certificate is of no use for a host.
func fits(leaf *x509.Certificate, host string, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("ended on %s", leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("begins on %s only", leaf.NotBefore.Format(time.RFC3339))
	case leaf.VerifyHostname(host) != nil:
		return fmt.Errorf("is for %v, which does not cover %s", slices.Concat(leaf.DNSNames, addresses(leaf)), host)
	}
	return nil
}

func addresses(leaf *x509.Certificate) (texts []string) {
	for _, ip := range leaf.IPAddresses {
		texts = append(texts, ip.String())
	}
	return texts
}
