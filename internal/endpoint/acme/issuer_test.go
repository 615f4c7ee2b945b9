package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/endpoint/acme/acmetest"
)

const (
	domain = "vms.example.org"
	vm     = "5b0c8ad6-7c53-4d5e-8f0c-9b1d2e3f4a5b." + domain
	other  = "ffffffff-7c53-4d5e-8f0c-9b1d2e3f4a5b." + domain
	wait   = 20 * time.Second // for what must happen; never slept
)

// world is an ACME server and an endpoint that it reaches.
type world struct {
	*acmetest.Server
	t             *testing.T
	trusts, roots *x509.CertPool // for the directory, and of the certificates it issues
	endpoint      *net.TCPAddr
	log           syncBuffer
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
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &world{t: t, endpoint: free.Addr().(*net.TCPAddr)}
	require.NoError(t, free.Close())
	w.Server = acmetest.New(t, seconds, w.endpoint.Port)
	w.trusts, w.roots = pool(t, w.Trust), pool(t, w.Roots)
	return w
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	p := x509.NewCertPool()
	require.True(t, p.AppendCertsFromPEM(text))
	return p
}

// start runs an issuer, and an endpoint that has its certificates from it, until the returned function is called.
func (w *world) start(cfg Config) (stop func()) {
	w.t.Helper()
	cfg.Domain, cfg.Directory, cfg.Roots, cfg.Email = domain, w.Directory, w.trusts, "ops@example.org"
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
	stop := w.start(Config{Folder: folder, DNSCommand: w.DNSCommand})
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
	left, err := os.ReadDir(w.Records)
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
	defer w.start(Config{Folder: filepath.Join(t.TempDir(), "acme"), DNSCommand: w.DNSCommand, renewEvery: 100 * time.Millisecond})()
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
	stop := w.start(Config{Folder: filepath.Join(t.TempDir(), "acme"), DNSCommand: acmetest.Script(t, "#!/bin/sh\necho the zone is locked\nexit 3\n")})
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
