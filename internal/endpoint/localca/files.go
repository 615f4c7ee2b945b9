package localca

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jonboulle/clockwork"
)

const (
	// CertFile is the authority's certificate in its folder: what clients are told to trust.
	CertFile = "ca.pem"
	// KeyFile is its private key, mode 0600.
	KeyFile = "ca-key.pem"
)

// Open loads the authority of a folder, or makes one for scope where there is none. It refuses one
// that does not cover scope or has expired: clients trust that one, so it is not replaced silently.
func Open(folder string, scope Scope, clock clockwork.Clock) (*Authority, error) {
	scope = scope.withLoopback()
	certPath, keyPath := filepath.Join(folder, CertFile), filepath.Join(folder, KeyFile)
	_, err := os.Stat(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		err = create(certPath, keyPath, scope, clock)
	}
	if err != nil {
		return nil, fmt.Errorf("make local CA: %w", err)
	}
	authority, err := load(certPath, keyPath, clock)
	if err != nil {
		return nil, fmt.Errorf("load local CA: %w", err)
	}
	if err := authority.fits(scope); err != nil {
		return nil, fmt.Errorf("local CA %s %w; move it and %s away to have a new one made", certPath, err, KeyFile)
	}
	return authority, nil
}

// create writes the key first: a certificate on disk means that both are there.
func create(certPath, keyPath string, scope Scope, clock clockwork.Clock) error {
	key, cert, err := generate(scope, clock.Now())
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	return writeFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644)
}

func load(certPath, keyPath string, clock clockwork.Clock) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is not an ECDSA certificate authority", certPath)
	}
	return newAuthority(pair.Leaf, key, clock)
}

// fits reports in what way the authority is of no use for scope.
func (a *Authority) fits(scope Scope) error {
	if a.clock.Now().Add(leafLife).After(a.cert.NotAfter) {
		return fmt.Errorf("ends on %s", a.cert.NotAfter.Format("2006-01-02"))
	}
	for _, domain := range scope.Domains {
		if !a.Covers(domain) {
			return fmt.Errorf("does not cover %s", domain)
		}
	}
	for _, prefix := range scope.Nets {
		if !a.Covers(prefix.Addr().String()) {
			return fmt.Errorf("does not cover %s", prefix)
		}
	}
	return nil
}

// writeFile makes a file appear whole or not at all, and survive a power cut.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	folder := filepath.Dir(path)
	temp, err := os.CreateTemp(folder, filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails once it is renamed
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return syncFolder(folder)
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
