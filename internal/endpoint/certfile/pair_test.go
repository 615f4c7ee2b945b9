package certfile

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

const host = "5b0c8ad6-7c53-4d5e-8f0c-9b1d2e3f4a5b.vms.example.org"

// files is a folder with a certificate and its key.
type files struct {
	t         *testing.T
	cert, key string
	clock     *clockwork.FakeClock
	log       bytes.Buffer
	written   int
}

func newFiles(t *testing.T) *files {
	dir := t.TempDir()
	return &files{t: t, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), clock: clockwork.NewFakeClockAt(time.Now())}
}

// write replaces both files. Each certificate has a serial number of its own.
func (f *files) write(from, to time.Duration, names ...string) {
	f.t.Helper()
	f.written++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f.t, err)
	now := f.clock.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(f.written)), NotBefore: now.Add(from), NotAfter: now.Add(to), DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(f.t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(f.t, err)
	f.put(f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	f.put(f.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// put writes a file with a time of its own, as writes that are far enough apart have.
func (f *files) put(path string, text []byte) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(path, text, 0o600))
	stamp := time.Unix(1_700_000_000+int64(f.written), 0)
	require.NoError(f.t, os.Chtimes(path, stamp, stamp))
}

func (f *files) open() (*Pair, error) {
	return Open(f.cert, f.key, host, f.clock, slog.New(slog.NewTextHandler(&f.log, nil)))
}

func (f *files) mustOpen() *Pair {
	f.t.Helper()
	p, err := f.open()
	require.NoError(f.t, err)
	return p
}

// serial is the number of the certificate that clients get.
func serial(t *testing.T, p *Pair) int64 {
	t.Helper()
	certificate, err := p.GetCertificate(&tls.ClientHelloInfo{ServerName: "anything"})
	require.NoError(t, err)
	return certificate.Leaf.SerialNumber.Int64()
}

const hour, year = time.Hour, 365 * 24 * time.Hour

func TestOnlyACertificateForTheHostIsTaken(t *testing.T) {
	for name, c := range map[string]struct {
		from, to time.Duration
		names    []string
		fails    string
	}{
		"wildcard":         {-hour, year, []string{"*.vms.example.org"}, ""},
		"among others":     {-hour, year, []string{"example.org", "*.vms.example.org"}, ""},
		"other domain":     {-hour, year, []string{"*.example.org"}, "is for [*.example.org], which does not cover " + host},
		"the domain alone": {-hour, year, []string{"vms.example.org"}, "does not cover"},
		"no name":          {-hour, year, nil, "does not cover"},
		"ended":            {-2 * hour, -hour, []string{"*.vms.example.org"}, "ended on"},
		"not yet":          {hour, year, []string{"*.vms.example.org"}, "begins on"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiles(t)
			f.write(c.from, c.to, c.names...)
			_, err := f.open()
			if c.fails == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.fails)
			require.ErrorContains(t, err, f.cert)
		})
	}
}

func TestWhatIsNoPairIsRefused(t *testing.T) {
	f := newFiles(t)
	_, err := f.open()
	require.ErrorIs(t, err, os.ErrNotExist)
	f.write(-hour, year, "*.vms.example.org")
	key, err := os.ReadFile(f.key)
	require.NoError(t, err)
	f.write(-hour, year, "*.vms.example.org")
	f.put(f.key, key)
	_, err = f.open()
	require.ErrorContains(t, err, "does not match")
	f.put(f.key, []byte("nothing"))
	_, err = f.open()
	require.ErrorContains(t, err, f.key)
	f.key = filepath.Dir(f.key)
	_, err = f.open()
	require.ErrorContains(t, err, "no file")
}

func TestChangedFilesAreReadAgain(t *testing.T) {
	f := newFiles(t)
	f.write(-hour, year, "*.vms.example.org")
	p := f.mustOpen()
	p.refresh()
	require.EqualValues(t, 1, serial(t, p))
	require.Empty(t, f.log.String(), "nothing has changed")

	f.write(-hour, year, "*.vms.example.org")
	p.refresh()
	require.EqualValues(t, 2, serial(t, p))
	require.Contains(t, f.log.String(), "endpoint certificate read")
}

func TestWhatCannotBeServedLeavesTheOldOneAndIsLoggedOnce(t *testing.T) {
	for name, spoil := range map[string]func(f *files){
		"half replaced": func(f *files) {
			key, _ := os.ReadFile(f.key)
			f.write(-hour, year, "*.vms.example.org")
			f.put(f.key, key)
		},
		"garbage":        func(f *files) { f.written++; f.put(f.cert, []byte("garbage")) },
		"empty":          func(f *files) { f.written++; f.put(f.cert, nil) },
		"gone":           func(f *files) { require.NoError(f.t, os.Remove(f.cert)) },
		"another domain": func(f *files) { f.write(-hour, year, "*.example.com") },
		"ended":          func(f *files) { f.write(-2*hour, -hour, "*.vms.example.org") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiles(t)
			f.write(-hour, year, "*.vms.example.org")
			p := f.mustOpen()
			spoil(f)
			for range 3 {
				p.refresh()
			}
			require.EqualValues(t, 1, serial(t, p))
			require.Equal(t, 1, strings.Count(f.log.String(), "the one from before stays"), f.log.String())

			f.written = 9
			f.write(-hour, year, "*.vms.example.org")
			p.refresh()
			require.EqualValues(t, 10, serial(t, p), "it recovers")
		})
	}
}

func TestWatchLooksEveryTenSecondsAndWarnsOnceADay(t *testing.T) {
	f := newFiles(t)
	f.write(-hour, 36*hour, "*.vms.example.org")
	p := f.mustOpen()
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); p.Watch(ctx) }()
	require.NoError(t, f.clock.BlockUntilContext(t.Context(), 1))
	f.write(-hour, 36*hour, "*.vms.example.org")
	f.clock.Advance(LookEvery)
	require.Eventually(t, func() bool { return serial(t, p) == 2 }, 10*time.Second, time.Millisecond)
	cancel()
	<-watched
	require.Equal(t, 2, strings.Count(f.log.String(), "ends soon"), "each certificate is warned of")
	p.warn()
	require.Equal(t, 2, strings.Count(f.log.String(), "ends soon"), "not again within the day")
	f.clock.Advance(25 * hour)
	p.warn()
	require.Equal(t, 3, strings.Count(f.log.String(), "ends soon"))
}
