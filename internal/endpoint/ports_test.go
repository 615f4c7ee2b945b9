package endpoint

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPortIsDecimalDigitsFrom1To65535AndNothingElse(t *testing.T) {
	for text, want := range map[string]uint16{"1": 1, "8080": 8080, "65535": 65535, "00080": 80} {
		port, err := parsePort(text)
		require.NoError(t, err, text)
		require.Equal(t, want, port, text)
	}
	for _, text := range []string{"", "0", "65536", "-1", "+80", " 80", "80 ", "0x50", "8_0", "80.0", "８０", "000080", "99999999999999999999"} {
		_, err := parsePort(text)
		require.ErrorIs(t, err, errBadPort, text)
	}
}

func TestRangesAreSortedAndJoined(t *testing.T) {
	for _, c := range []struct {
		name     string
		in, want []PortRange
	}{
		{"none", nil, nil},
		{"one", []PortRange{{80, 80}}, []PortRange{{80, 80}}},
		{"neighbours", []PortRange{{81, 90}, {80, 80}}, []PortRange{{80, 90}}},
		{"inside another", []PortRange{{1, 100}, {20, 30}}, []PortRange{{1, 100}}},
		{"apart", []PortRange{{9000, 9000}, {80, 81}}, []PortRange{{80, 81}, {9000, 9000}}},
		{"at the very end", []PortRange{{65535, 65535}, {1, 65535}}, []PortRange{{1, 65535}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := merge(c.in)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	for _, bad := range []PortRange{{0, 5}, {9, 8}} {
		_, err := merge([]PortRange{bad})
		require.Error(t, err)
	}
}

func FuzzParsePort(f *testing.F) {
	for _, seed := range []string{"8080", "0", "65536", "+1", " 1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		port, err := parsePort(text)
		if err != nil {
			return
		}
		number, err := strconv.Atoi(text)
		require.NoError(t, err)
		require.Equal(t, number, int(port))
		require.NotZero(t, port)
	})
}
