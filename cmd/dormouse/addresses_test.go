package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/jonboulle/clockwork"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/endpoint/localca"
)

// parsed are the flags of a command line.
func parsed(t *testing.T, args ...string) (a addresses) {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	a.addFlags(flags)
	require.NoError(t, flags.Parse(args))
	return a
}

func TestHowClientsFindAMicroVM(t *testing.T) {
	files := []string{"--endpoint-cert=c.pem", "--endpoint-key=k.pem", "--endpoint-domain=vms.example.org"}
	with := func(base []string, more ...string) []string { return append(base[:len(base):len(base)], more...) }
	for name, c := range map[string]struct {
		args         []string
		mode, domain string
		fails        string
	}{
		"nothing said":           {nil, "ip", "localhost", ""},
		"all addresses":          {[]string{"--listen-endpoint=:443", "--endpoint-domain=vms.example.org"}, "domain", "vms.example.org", ""},
		"domain on loopback":     {[]string{"--endpoint-mode=domain"}, "domain", "localhost", ""},
		"domain is normalized":   {[]string{"--endpoint-domain=VMs.Example.ORG."}, "ip", "vms.example.org", ""},
		"ip elsewhere":           {[]string{"--listen-endpoint=0.0.0.0:443", "--endpoint-mode=ip"}, "", "", "needs a listener on loopback"},
		"no such mode":           {[]string{"--endpoint-mode=dns"}, "", "", "it is auto, ip or domain"},
		"no port":                {[]string{"--listen-endpoint=127.0.0.1"}, "", "", "missing port"},
		"no domain":              {[]string{"--endpoint-domain=*.example.org"}, "", "", "is no domain"},
		"empty domain":           {[]string{"--endpoint-domain="}, "", "", "is no domain"},
		"files on loopback":      {files, "domain", "vms.example.org", ""},
		"files and ip":           {with(files, "--endpoint-mode=ip"), "", "", "nobody issues certificates for addresses in 127.64.0.0/10"},
		"half of the files":      {files[:1], "", "", "need each other"},
		"files and ACME":         {with(files, "--acme-domain=vms.example.org"), "", "", "not both"},
		"ACME":                   {[]string{"--acme-domain=vms.example.org"}, "domain", "vms.example.org", ""},
		"ACME, said twice":       {[]string{"--acme-domain=vms.example.org", "--endpoint-domain=VMS.example.org"}, "domain", "vms.example.org", ""},
		"ACME for another one":   {[]string{"--acme-domain=vms.example.org", "--endpoint-domain=example.org"}, "", "", "is not the one of --acme-domain"},
		"half of ACME":           {[]string{"--acme-email=ops@example.org"}, "", "", "need --acme-domain"},
		"authority of local CA":  {[]string{"--endpoint-ca=ca.pem"}, "", "", "the local CA makes its own"},
		"authority of the files": {with(files, "--endpoint-ca=ca.pem"), "domain", "vms.example.org", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parsed(t, c.args...).settled()
			if c.fails != "" {
				var misuse *usageError
				require.ErrorAs(t, err, &misuse)
				require.ErrorContains(t, err, c.fails)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.mode, got.mode)
			require.Equal(t, c.domain, got.domain)
		})
	}
}

func TestWhereCertificatesComeFrom(t *testing.T) {
	dir, clock, log := t.TempDir(), clockwork.NewRealClock(), slog.New(slog.DiscardHandler)
	open := func(args ...string) (*certificates, error) {
		a, err := parsed(t, args...).settled()
		require.NoError(t, err)
		return a.certificates(dir, func(string) bool { return false }, clock, log)
	}
	local, err := open()
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, localca.CertFile), local.clientCA)
	leaf, err := local.get(&tls.ClientHelloInfo{ServerName: "x.localhost"})
	require.NoError(t, err)
	require.Equal(t, []string{"x.localhost"}, leaf.Leaf.DNSNames)

	for name, c := range map[string]struct {
		args  []string
		fails string
	}{
		"missing file":    {[]string{"--endpoint-cert=" + dir + "/none.pem", "--endpoint-key=" + dir + "/none.pem"}, "none.pem"},
		"other domain":    {[]string{"--endpoint-cert=" + dir + "/ca.pem", "--endpoint-key=" + dir + "/ca-key.pem", "--endpoint-domain=example.org"}, "does not cover any.example.org"},
		"local CA's":      {[]string{"--endpoint-domain=example.org"}, "does not cover example.org"},
		"no such ACME CA": {[]string{"--acme-domain=example.org", "--acme-ca=" + dir + "/none.pem"}, "--acme-ca"},
		"no ACME CA":      {[]string{"--acme-domain=example.org", "--acme-ca=" + dir + "/ca-key.pem"}, "holds no certificate"},
		"no port of ACME": {[]string{"--acme-domain=example.org", "--listen-endpoint=127.0.0.1:0"}, "find the port"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := open(c.args...)
			require.ErrorContains(t, err, c.fails)
		})
	}

	public, err := open("--acme-domain=example.org", "--listen-endpoint=127.0.0.1:443")
	require.NoError(t, err)
	require.Empty(t, public.clientCA)
	require.Equal(t, []string{"acme-tls/1"}, public.protocols)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, public.maintain(ended))
	company, err := open("--acme-domain=example.org", "--listen-endpoint=127.0.0.1:443", "--acme-dns-command=/bin/true", "--endpoint-ca=ca.pem")
	require.NoError(t, err)
	here, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, filepath.Join(here, "ca.pem"), company.clientCA)
	require.Empty(t, company.protocols)
}

func TestNamesThatOnlyThisMachineKnowsAreWarnedOf(t *testing.T) {
	for listen, warns := range map[string]bool{"127.0.0.1:7443": false, ":7443": true} {
		var log bytes.Buffer
		a, err := parsed(t, "--listen-endpoint="+listen, "--endpoint-mode=auto").settled()
		require.NoError(t, err)
		_, err = a.certificates(t.TempDir(), nil, clockwork.NewRealClock(), slog.New(slog.NewTextHandler(&log, nil)))
		require.NoError(t, err)
		require.Equal(t, warns, log.Len() > 0, log.String())
	}
}
