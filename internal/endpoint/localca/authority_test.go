package localca

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

var scope = Scope{
	Domains: []string{"vms.example.org"},
	Nets:    []netip.Prefix{netip.MustParsePrefix("192.168.1.5/32")},
}

// toAddr is a connection that was made to an address.
type toAddr struct {
	net.Conn
	local string
}

func (c toAddr) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.local), 7443))
}

func open(t *testing.T, folder string, clock clockwork.Clock) *Authority {
	t.Helper()
	authority, err := Open(folder, scope, clock)
	require.NoError(t, err)
	return authority
}

// roots is what a client has that was given ca.pem.
func roots(t *testing.T, folder string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(folder, CertFile))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pem))
	return pool
}

func TestCertificatesVerifyForTheHostAskedForAndInScope(t *testing.T) {
	folder := t.TempDir()
	clock := clockwork.NewFakeClockAt(time.Now())
	authority := open(t, folder, clock)
	pool := roots(t, folder)

	for _, c := range []struct {
		name, sni, local string
		host             string // what the client checks the certificate for
		ok               bool
	}{
		{"own address of a VM", "", "127.64.0.1", "127.64.0.1", true},
		{"name below localhost", "0b6f.localhost", "127.0.0.1", "0b6f.localhost", true},
		{"name in the domain", "0b6f.VMS.example.org.", "10.0.0.1", "0b6f.vms.example.org", true},
		{"address that was configured", "", "192.168.1.5", "192.168.1.5", true},
		{"other address", "", "192.168.1.6", "192.168.1.6", false},
		{"other name", "example.com", "127.0.0.1", "example.com", false},
		{"name that only ends alike", "evilvms.example.org", "127.0.0.1", "evilvms.example.org", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			leaf, err := authority.GetCertificate(&tls.ClientHelloInfo{ServerName: c.sni, Conn: toAddr{local: c.local}})
			require.NoError(t, err)
			_, err = leaf.Leaf.Verify(x509.VerifyOptions{DNSName: c.host, Roots: pool, CurrentTime: clock.Now()})
			if c.ok {
				require.NoError(t, err)
			} else {
				require.Error(t, err)
			}
		})
	}
}

func TestAuthorityIsConstrainedEvenIfItsKeyIsStolen(t *testing.T) {
	folder := t.TempDir()
	authority := open(t, folder, clockwork.NewRealClock())
	for _, host := range []string{"example.com", "8.8.8.8", "::1"} {
		leaf, err := authority.sign(host) // what a thief would do
		require.NoError(t, err)
		_, err = leaf.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots(t, folder)})
		require.Error(t, err, host)
	}
}

func TestLeafIsReusedUntilItIsAboutToExpire(t *testing.T) {
	clock := clockwork.NewFakeClockAt(time.Now())
	authority := open(t, t.TempDir(), clock)
	hello := &tls.ClientHelloInfo{ServerName: "a.localhost"}

	first, err := authority.GetCertificate(hello)
	require.NoError(t, err)
	clock.Advance(leafLife - renewBefore - time.Minute)
	again, err := authority.GetCertificate(hello)
	require.NoError(t, err)
	require.Same(t, first, again)

	clock.Advance(2 * time.Minute)
	renewed, err := authority.GetCertificate(hello)
	require.NoError(t, err)
	require.NotSame(t, first, renewed)
	require.True(t, renewed.Leaf.NotAfter.After(first.Leaf.NotAfter))
}

func TestAuthorityOutlivesARestart(t *testing.T) {
	folder := t.TempDir()
	open(t, folder, clockwork.NewRealClock())
	pool := roots(t, folder)

	leaf, err := open(t, folder, clockwork.NewRealClock()).GetCertificate(&tls.ClientHelloInfo{ServerName: "a.localhost"})
	require.NoError(t, err)
	_, err = leaf.Leaf.Verify(x509.VerifyOptions{DNSName: "a.localhost", Roots: pool})
	require.NoError(t, err)
}

func TestKeyIsPrivateAndNothingElseIsLeftInTheFolder(t *testing.T) {
	folder := t.TempDir()
	open(t, folder, clockwork.NewRealClock())
	key, err := os.Stat(filepath.Join(folder, KeyFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), key.Mode().Perm())
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 2)
}

func TestAuthorityIsNeverReplacedSilently(t *testing.T) {
	for _, c := range []struct {
		name, says string
		spoil      func(t *testing.T, folder string) (Scope, clockwork.Clock)
	}{
		{"other domain", "does not cover other.example", func(*testing.T, string) (Scope, clockwork.Clock) {
			return Scope{Domains: []string{"other.example"}}, clockwork.NewRealClock()
		}},
		{"expired", "ends on", func(*testing.T, string) (Scope, clockwork.Clock) {
			return scope, clockwork.NewFakeClockAt(time.Now().Add(authorityLife))
		}},
		{"key lost", KeyFile, func(t *testing.T, folder string) (Scope, clockwork.Clock) {
			require.NoError(t, os.Remove(filepath.Join(folder, KeyFile)))
			return scope, clockwork.NewRealClock()
		}},
		{"certificate damaged", "load local CA", func(t *testing.T, folder string) (Scope, clockwork.Clock) {
			require.NoError(t, os.WriteFile(filepath.Join(folder, CertFile), []byte("x"), 0o600))
			return scope, clockwork.NewRealClock()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			open(t, folder, clockwork.NewRealClock())
			wanted, clock := c.spoil(t, folder)
			before, err := os.ReadFile(filepath.Join(folder, CertFile))
			require.NoError(t, err)
			_, err = Open(folder, wanted, clock)
			require.ErrorContains(t, err, c.says)
			after, err := os.ReadFile(filepath.Join(folder, CertFile))
			require.NoError(t, err)
			require.Equal(t, before, after)
		})
	}
}

func TestStartCutShortBetweenKeyAndCertificateIsMadeGood(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, KeyFile), []byte("half"), 0o600))
	open(t, folder, clockwork.NewRealClock())
}
