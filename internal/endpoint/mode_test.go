package endpoint

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestModeFollowsTheListener(t *testing.T) {
	for _, c := range []struct {
		mode   Mode
		listen string
		want   Mode
		fails  string
	}{
		{ModeAuto, "", ModeIP, ""},
		{ModeAuto, "127.0.0.1:7443", ModeIP, ""},
		{ModeAuto, "localhost:7443", ModeIP, ""},
		{ModeAuto, "[::1]:7443", ModeIP, ""},
		{"", "127.0.0.1:0", ModeIP, ""},
		{ModeAuto, ":443", ModeDomain, ""},
		{ModeAuto, "0.0.0.0:443", ModeDomain, ""},
		{ModeAuto, "[::]:443", ModeDomain, ""},
		{ModeAuto, "192.0.2.7:443", ModeDomain, ""},
		{ModeIP, "127.0.0.1:7443", ModeIP, ""},
		{ModeIP, "[::ffff:127.0.0.1]:7443", ModeIP, ""},
		{ModeIP, "0.0.0.0:443", "", "needs a listener on loopback"},
		{ModeIP, "192.0.2.7:443", "", "needs a listener on loopback"},
		{ModeDomain, "127.0.0.1:7443", ModeDomain, ""},
		{ModeDomain, "0.0.0.0:443", ModeDomain, ""},
		{"dns", "127.0.0.1:7443", "", `"dns" is no mode: it is auto, ip or domain`},
		{ModeAuto, "127.0.0.1", "", "missing port"},
	} {
		t.Run(string(c.mode)+" "+c.listen, func(t *testing.T) {
			got, err := c.mode.Resolve(c.listen)
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestOnlyModeIPHasAddresses(t *testing.T) {
	require.Nil(t, ModeDomain.NextAddr())
	require.NotNil(t, ModeIP.NextAddr())
}
