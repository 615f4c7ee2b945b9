package endpoint

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNextAddrGoesRoundThePool(t *testing.T) {
	for _, c := range []struct{ name, last, taken, want string }{
		{"beginning", "", "", "127.64.0.1"},
		{"the one after", "127.64.0.1", "", "127.64.0.2"},
		{"over a taken one", "127.64.0.1", "127.64.0.2", "127.64.0.3"},
		{"no .255, no .0", "127.64.0.254", "", "127.64.1.1"},
		{"round the end", "127.127.255.254", "", "127.64.0.1"},
		{"from outside the pool", "127.0.0.1", "", "127.64.0.1"},
		{"from IPv6", "::1", "", "127.64.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var last netip.Addr
			if c.last != "" {
				last = netip.MustParseAddr(c.last)
			}
			got, err := NextAddr(last, func(a netip.Addr) bool { return a.String() == c.taken })
			require.NoError(t, err)
			require.Equal(t, c.want, got.String())
		})
	}
}

func TestNextAddrFindsTheLastFreeOneAndThenSaysThereIsNone(t *testing.T) {
	last := netip.MustParseAddr("127.90.1.7")
	got, err := NextAddr(last, func(a netip.Addr) bool { return a != last })
	require.NoError(t, err)
	require.Equal(t, last, got)

	_, err = NextAddr(last, func(netip.Addr) bool { return true })
	require.ErrorIs(t, err, ErrNoAddr)
}

func TestOnlyNamesInTheDomainNameAVM(t *testing.T) {
	const domain = "vms.example.org"
	for host, want := range map[string]bool{
		testEndpoint + "." + domain:                            true,
		testEndpoint + "." + domain + ":7443":                  true,
		testEndpoint + "." + domain + ".":                      true,
		strings.ToUpper(testEndpoint) + ".VMS.example.ORG:443": true,
		testEndpoint + ".example.org":                          false,
		testEndpoint + "." + domain + ".evil.example":          false,
		testEndpoint + "-" + domain:                            false,
		testEndpoint:                                           false,
		testEndpoint + ".":                                     false,
		domain:                                                 false,
		"x." + testEndpoint + "." + domain:                     false,
		testEndpoint[1:] + "." + domain:                        false,
		"":                                                     false,
		":":                                                    false,
		"127.0.0.1:7443":                                       false,
		"[::1]:7443":                                           false,
	} {
		id, ok := endpointID(host, domain)
		require.Equal(t, want, ok, host)
		if want {
			require.Equal(t, testEndpoint, id, host)
		}
	}
}

func FuzzEndpointID(f *testing.F) {
	for _, seed := range []string{testHost, testHost + ":7443", "[::1]:1", "::", "..", ""} {
		f.Add(seed, "localhost")
	}
	f.Fuzz(func(t *testing.T, host, domain string) {
		id, ok := endpointID(host, domain)
		require.Equal(t, ok, id != "")
		if ok {
			require.True(t, strings.HasPrefix(strings.ToLower(host), id+"."), "%q", host)
		}
	})
}
