package acme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

const (
	domain = "vms.example.org"
	vm     = "5b0c8ad6-7c53-4d5e-8f0c-9b1d2e3f4a5b." + domain
	other  = "ffffffff-7c53-4d5e-8f0c-9b1d2e3f4a5b." + domain
	wait   = 20 * time.Second // for what must happen; never slept
)

// world is Let's Encrypt's own test server with the DNS it asks, and an endpoint that it reaches.
type world struct {
	t         *testing.T
	directory string         // URL
	trusts    *x509.CertPool // for the directory
	roots     *x509.CertPool // of the certificates it issues
	records   string         // folder of the TXT records, a file each
	program   string         // makes and removes them
	endpoint  *net.TCPAddr   // where the server looks for port 443
	log       syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// newWorld starts a server whose certificates are valid for some seconds.
func newWorld(t *testing.T, seconds uint64) *world {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	w := &world{t: t, trusts: x509.NewCertPool(), roots: x509.NewCertPool(), records: t.TempDir()}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.endpoint = free.Addr().(*net.TCPAddr)
	require.NoError(t, free.Close())

	store, quiet := db.NewMemoryStore(), log.New(io.Discard, "", 0)
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: seconds}})
	require.True(t, w.roots.AppendCertsFromPEM(authority.GetRootCert(0).PEM()))
	validation := va.New(quiet, 1, w.endpoint.Port, false, w.serveDNS(), store)
	front := wfe.New(quiet, store, validation, authority, []string{"pebble.letsencrypt.org"}, false, false, 0, 0)
	w.directory = w.serveHTTPS(front.Handler()) + wfe.DirectoryPath
	w.program = w.script(`#!/bin/sh
case $1 in
present) echo "$3" >"` + w.records + `/$2" ;;
cleanup) rm "` + w.records + `/$2" ;;
esac
`)
	return w
}

func (w *world) script(text string) string {
	path := filepath.Join(w.t.TempDir(), "dns")
	require.NoError(w.t, os.WriteFile(path, []byte(text), 0o700))
	return path
}

// serveHTTPS serves under a certificate that only who trusts it accepts, and returns the URL.
func (w *world) serveHTTPS(handler http.Handler) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(w.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(w.t, err)
	require.True(w.t, w.trusts.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
	})
	require.NoError(w.t, err)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: wait, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(listener) }()
	w.t.Cleanup(func() { server.Close() })
	return "https://" + listener.Addr().String()
}

// serveDNS answers that every host is on loopback, and with the records that were made.
func (w *world) serveDNS() (address string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.t, err)
	server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		q := question.Question[0]
		header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
		switch q.Qtype {
		case dns.TypeA:
			answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)})
		case dns.TypeTXT:
			if value, err := os.ReadFile(filepath.Join(w.records, strings.TrimSuffix(strings.ToLower(q.Name), "."))); err == nil {
				answer.Answer = append(answer.Answer, &dns.TXT{Hdr: header, Txt: []string{strings.TrimSpace(string(value))}})
			}
		}
		_ = rw.WriteMsg(answer)
	})}
	go func() { _ = server.ActivateAndServe() }()
	w.t.Cleanup(func() { _ = server.Shutdown() })
	return listener.Addr().String()
}

// start runs an issuer, and an endpoint that has its certificates from it, until the returned function is called.
func (w *world) start(cfg Config) (stop func()) {
	w.t.Helper()
	cfg.Domain, cfg.Directory, cfg.Roots, cfg.Email = domain, w.directory, w.trusts, "ops@example.org"
	cfg.Listen = w.endpoint.String()
	cfg.Known = func(host string) bool { return host == vm }
	cfg.Log = slog.New(slog.NewTextHandler(&w.log, nil))
	issuer, err := New(cfg)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- issuer.Run(ctx) }()
	server := &http.Server{
		TLSConfig: &tls.Config{
			GetCertificate: issuer.GetCertificate, MinVersion: tls.VersionTLS12, NextProtos: append([]string{"h2", "http/1.1"}, issuer.Protocols()...),
		},
		ReadHeaderTimeout: wait, ErrorLog: log.New(io.Discard, "", 0),
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	require.NoError(w.t, err)
	go func() { _ = server.Serve(tls.NewListener(listener, server.TLSConfig)) }()
	return func() {
		cancel()
		require.NoError(w.t, <-ran)
		require.NoError(w.t, server.Close())
	}
}

// connect is a client that checks what it gets for a host.
func (w *world) connect(host string) (*x509.Certificate, error) {
	dialer := &net.Dialer{Timeout: wait}
	conn, err := tls.DialWithDialer(dialer, "tcp", w.endpoint.String(), &tls.Config{RootCAs: w.roots, ServerName: host, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

func (w *world) mustConnect(host string) *x509.Certificate {
	w.t.Helper()
	leaf, err := w.connect(host)
	require.NoError(w.t, err, w.log.String())
	return leaf
}

// getWildcard waits until the certificate is there.
func (w *world) getWildcard() (leaf *x509.Certificate) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		var err error
		leaf, err = w.connect(vm)
		return err == nil
	}, wait, 20*time.Millisecond, "%s", &w.log)
	return leaf
}

func TestAWildcardIsGotOverDNSAndServedToEverybody(t *testing.T) {
	w, folder := newWorld(t, 3600), filepath.Join(t.TempDir(), "acme")
	stop := w.start(Config{Folder: folder, DNSCommand: w.program})
	first := w.getWildcard()
	require.Equal(t, []string{"*." + domain}, first.DNSNames)
	require.Equal(t, first.SerialNumber, w.mustConnect(other).SerialNumber, "a handshake tells nothing of what there is")
	for _, stranger := range []string{"", "www.example.com", "*." + domain, "xn--", strings.Repeat("a", 200)} {
		_, err := w.connect(stranger)
		var name x509.HostnameError
		if stranger != "" && err != nil { // Go's client needs a name to check
			require.ErrorAs(t, err, &name, "the handshake itself works: %q", stranger)
		}
	}
	left, err := os.ReadDir(w.records)
	require.NoError(t, err)
	require.Empty(t, left, "the record is removed")
	requireSecret(t, folder)
	require.Contains(t, w.log.String(), "endpoint certificate got")
	require.NotContains(t, w.log.String(), "level=ERROR")
	stop()

	stop = w.start(Config{Folder: folder, DNSCommand: "/nonexistent"})
	require.Equal(t, first.SerialNumber, w.getWildcard().SerialNumber, "it is kept over restarts")
	stop()

	stop = w.start(Config{Folder: folder})
	defer stop()
	require.Equal(t, []string{vm}, w.mustConnect(vm).DNSNames, "without DNS nobody could renew the wildcard")
	_, err = w.connect(other)
	require.Error(t, err)
}

// requireSecret checks that nobody else can read what is in a folder.
func requireSecret(t *testing.T, folder string) {
	t.Helper()
	keys := 0
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s is %v", path, info.Mode())
		if strings.HasSuffix(path, ".key") {
			keys++
		}
		return nil
	}))
	require.Equal(t, 2, keys, "of the account and the certificate")
}

func TestAMicroVMGetsACertificateAtItsFirstConnectionAndStrangersGetNone(t *testing.T) {
	w := newWorld(t, 3600)
	defer w.start(Config{Folder: filepath.Join(t.TempDir(), "acme")})()
	for _, stranger := range []string{other, "www.example.com", "localhost", domain, "*." + domain} {
		_, err := w.connect(stranger)
		var refused *net.OpError // an alert
		require.ErrorAs(t, err, &refused, stranger)
	}
	require.NotContains(t, w.log.String(), "endpoint certificate got", "the authority was asked for nobody")

	serials := make(chan string, 5)
	for range cap(serials) {
		go func() {
			leaf, err := w.connect(vm)
			serials <- fmt.Sprint(leaf != nil && leaf.DNSNames[0] == vm, err)
		}()
	}
	for range cap(serials) {
		require.Equal(t, "true <nil>", <-serials, w.log.String())
	}
	require.Equal(t, 1, strings.Count(w.log.String(), "endpoint certificate got"), "one for all of them")
}

func TestACertificateIsRenewedBeforeItEnds(t *testing.T) {
	w := newWorld(t, 6)
	defer w.start(Config{Folder: filepath.Join(t.TempDir(), "acme"), DNSCommand: w.program, renewEvery: 100 * time.Millisecond})()
	first := w.getWildcard()
	require.Eventually(t, func() bool {
		leaf, err := w.connect(vm)
		require.NoError(t, err, "never without a valid one")
		return leaf.SerialNumber.Cmp(first.SerialNumber) != 0
	}, wait, 50*time.Millisecond)
	require.Contains(t, w.log.String(), "renewal=true")
}

func TestWhatKeepsACertificateFromComingIsInTheLog(t *testing.T) {
	w := newWorld(t, 3600)
	stop := w.start(Config{Folder: filepath.Join(t.TempDir(), "acme"), DNSCommand: w.script("#!/bin/sh\necho the zone is locked\nexit 3\n")})
	require.Eventually(t, func() bool {
		log := w.log.String()
		return strings.Contains(log, "level=ERROR") && strings.Contains(log, "exit status 3: the zone is locked")
	}, wait, 10*time.Millisecond, "%s", &w.log)
	_, err := w.connect(vm)
	require.Error(t, err)
	stop() // does not wait for the next try
}

func TestAnAddressWithoutAPortIsRefused(t *testing.T) {
	for _, listen := range []string{"127.0.0.1", "127.0.0.1:0", "127.0.0.1:https"} {
		_, err := New(Config{Domain: domain, Listen: listen, Log: slog.New(slog.DiscardHandler)})
		require.ErrorContains(t, err, "find the port", listen)
	}
}

func TestOutputOfACommandIsBounded(t *testing.T) {
	var said tail
	for range 100 {
		fmt.Fprint(&said, strings.Repeat("x", 100))
	}
	fmt.Fprint(&said, "end")
	require.Equal(t, shownOutput, said.Len())
	require.True(t, strings.HasSuffix(said.String(), "xend"))
}
