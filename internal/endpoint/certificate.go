package endpoint

import (
	"crypto/tls"
	"fmt"
)

// CertificateFromFiles serves one certificate for everything, read once from PEM files: a wildcard
// for the endpoint domain, as a public or company authority issues it.
func CertificateFromFiles(certFile, keyFile string) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("load endpoint certificate: %w", err)
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }, nil
}
