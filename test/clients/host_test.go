package clients

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/test/e2e/daemon"
)

const (
	image = "page"
	// limit bounds what takes longest, a build, on a slow machine under load.
	limit = 10 * time.Minute
)

// host is a daemon that is used through its command line.
type host struct {
	*daemon.Daemon
	t *testing.T
}

// command runs dormouse and returns what it prints.
func (h host) command(args ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	out, err := h.Command(ctx, args...)
	require.NoError(h.t, err)
	return strings.TrimSpace(string(out))
}

// start starts the daemon with flags in its environment. What it finds in its data folder it takes over.
func (h host) start(environment ...string) {
	h.t.Helper()
	require.NoError(h.t, h.Start(append([]string{"env"}, environment...)...))
}

// vm is what a client is told of a microVM.
type vm struct {
	Named    bool   `json:"named"` // Hostname is a name, which no DNS knows, of 127.0.0.1
	Issuer   string `json:"issuer"`
	Host     string `json:"host"` // with the port
	Hostname string `json:"hostname"`
	CA       string `json:"ca"`     // file
	Token    string `json:"token"`  // opens all ports
	Narrow   string `json:"narrow"` // opens port 8080
	Other    string `json:"other"`  // another microVM's
	id       string
}

// state is what GetMicrovm answers, of which tests need this.
type state struct{ State, Endpoint string }

// look asks what a microVM is doing, and where.
func (h host) look(id string) state {
	h.t.Helper()
	var view struct{ MicroVM state }
	require.NoError(h.t, json.Unmarshal([]byte(h.command("inspect", id, "--output", "json")), &view))
	return view.MicroVM
}

// describe asks where a microVM is now, and makes tokens.
func (h host) describe(id, other string) vm {
	h.t.Helper()
	endpoint := h.look(id).Endpoint
	hostname, _, err := net.SplitHostPort(endpoint)
	require.NoError(h.t, err)
	return vm{
		Host: endpoint, Hostname: hostname, CA: filepath.Join(h.Dir, "ca.pem"), id: id,
		Token: h.command("token", id, "--port", "all"), Narrow: h.command("token", id, "--port", "8080"), Other: h.command("token", other, "--port", "all"),
	}
}

// sleep suspends a microVM that does not sleep yet.
func (h host) sleep(id string) {
	h.t.Helper()
	if h.look(id).State != "SUSPENDED" {
		h.command("suspend", id)
	}
}

// resolved is what curl's --resolve takes: where the host is. Of an address that is itself.
func (v vm) resolved() string {
	if v.Named {
		return v.Host + ":127.0.0.1"
	}
	return v.Host + ":" + v.Hostname
}

// wildcard makes a certificate for a name and an authority that vouches for it, in files.
func wildcard(t *testing.T, name string) (cert, key, ca string) {
	t.Helper()
	authority := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Example CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		DNSNames: []string{name}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	require.NoError(t, err)
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, leafKey.Public(), authorityKey)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	return write("cert.pem", "CERTIFICATE", leafDER), write("key.pem", "PRIVATE KEY", keyDER), write("ca.pem", "CERTIFICATE", authorityDER)
}
