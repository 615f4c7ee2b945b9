package netstack

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatAGuestWasToldIsKnownForAnHour(t *testing.T) {
	var n Names
	a, now := netip.MustParseAddr("203.0.113.5"), time.Now()
	require.Empty(t, n.of(a, now))
	n.learn(a, "a.example", now)
	n.learn(a, "b.example", now.Add(time.Minute))
	require.Equal(t, []string{"b.example", "a.example"}, n.of(a, now.Add(nameTTL-1)))
	require.Equal(t, []string{"b.example"}, n.of(a, now.Add(nameTTL)))
	n.learn(a, "a.example", now.Add(nameTTL))
	require.Equal(t, []string{"a.example", "b.example"}, n.of(a, now.Add(nameTTL)), "told again")
	require.Empty(t, n.of(a, now.Add(3*nameTTL)))
}

func TestWhatIsKnownOfNamesIsBounded(t *testing.T) {
	var n Names
	now := time.Now()
	kept := netip.MustParseAddr("203.0.113.5")
	n.learn(kept, "kept.example", now)
	for i := range 10 * knownAddrs {
		a := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
		n.learn(a, "x.example", now)
		require.NotEmpty(t, n.of(kept, now), "what is used stays")
	}
	require.Len(t, n.known, knownAddrs)
	for i := range 100 {
		n.learn(kept, fmt.Sprintf("%d.example", i), now)
	}
	require.Equal(t, []string{"99.example", "98.example", "97.example", "96.example"}, n.of(kept, now))
}

func TestOnlyPlainNamesAreForRules(t *testing.T) {
	for name, want := range map[string]string{"API.Example.com.": "api.example.com", "_sip._udp.example.": "_sip._udp.example"} {
		got, ok := plainName(name)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	for _, name := range []string{".", `a\.example.com.`, "ä.example.", "a b.example.", `\000.example.`, strings.Repeat("a", 300) + "/"} {
		_, ok := plainName(name)
		require.False(t, ok, name)
	}
}
