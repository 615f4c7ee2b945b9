// Package acmetest is an ACME server for tests: Let's Encrypt's own test server, in this process, with the DNS that it asks.
package acmetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

const headerTimeout = 20 * time.Second

// Server is a running server. It ends with its test.
type Server struct {
	Directory string // URL
	// Trust is the file (PEM) to check the directory's own certificate against, Roots that for the
	// certificates it issues.
	Trust, Roots string
	// DNSCommand makes and removes TXT records, as the package acme says; Records is the folder they
	// are in, a file each.
	DNSCommand, Records string
}

// New starts a server whose certificates are valid for some seconds. Every host name is on loopback
// for it, where it takes tlsPort for port 443.
func New(t testing.TB, seconds uint64, tlsPort int) *Server {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	s := &Server{Records: t.TempDir()}
	store, quiet := db.NewMemoryStore(), log.New(io.Discard, "", 0)
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: seconds}})
	s.Roots = write(t, "roots.pem", authority.GetRootCert(0).PEM(), 0o600)
	validation := va.New(quiet, 1, tlsPort, false, s.serveDNS(t), store)
	front := wfe.New(quiet, store, validation, authority, []string{"pebble.letsencrypt.org"}, false, false, 0, 0)
	s.Directory = s.serveHTTPS(t, front.Handler()) + wfe.DirectoryPath
	s.DNSCommand = Script(t, `#!/bin/sh
case $1 in
present) echo "$3" >"`+s.Records+`/$2" ;;
cleanup) rm "`+s.Records+`/$2" ;;
esac
`)
	return s
}

// Script makes a program of a shell script and returns its path.
func Script(t testing.TB, text string) string {
	t.Helper()
	return write(t, "script", []byte(text), 0o700)
}

func write(t testing.TB, name string, text []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, text, mode))
	return path
}

// serveHTTPS serves under a certificate of its own and returns the URL.
func (s *Server) serveHTTPS(t testing.TB, handler http.Handler) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	s.Trust = write(t, "trust.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
	})
	require.NoError(t, err)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return "https://" + listener.Addr().String()
}

// serveDNS answers that every host is on loopback, and with the records that were made.
func (s *Server) serveDNS(t testing.TB) (address string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		q := question.Question[0]
		header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
		switch q.Qtype {
		case dns.TypeA:
			answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)})
		case dns.TypeTXT:
			if value, err := os.ReadFile(filepath.Join(s.Records, strings.TrimSuffix(strings.ToLower(q.Name), "."))); err == nil {
				answer.Answer = append(answer.Answer, &dns.TXT{Hdr: header, Txt: []string{strings.TrimSpace(string(value))}})
			}
		}
		_ = rw.WriteMsg(answer)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return listener.Addr().String()
}
