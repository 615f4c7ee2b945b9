package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestLimitsComeFromFlagsOrTheEnvironment(t *testing.T) {
	t.Setenv("DORMOUSE_QUOTAS", "aws,memory-gib=64,builds=off,connectors=7")
	cmd := serveCommand()
	require.NoError(t, cmd.ParseFlags([]string{"--rate-limits", "RunMicrovm=2,GetMicrovm=10/20", "--rate-limits", "GetMicrovm=off"}))
	require.NoError(t, fromEnvironment(cmd.Flags()))
	var l limits
	var err error
	l.rates, err = cmd.Flags().GetStringSlice("rate-limits")
	require.NoError(t, err)
	l.quotas, err = cmd.Flags().GetStringSlice("quotas")
	require.NoError(t, err)
	rates, quotas, err := l.parse()
	require.NoError(t, err)
	require.Equal(t, awsapi.Rates{"RunMicrovm": {PerSecond: 2, Burst: 2}}, rates)
	require.Equal(t, store.Quotas{MemoryMiB: 64 << 10, Images: 100, Versions: 50, Connectors: 7}, quotas)
}

func TestNothingIsLimitedByDefault(t *testing.T) {
	rates, quotas, err := new(limits).parse()
	require.NoError(t, err)
	require.Empty(t, rates)
	require.Zero(t, quotas)
}

func TestMistakesInLimitsAreRefused(t *testing.T) {
	for _, bad := range []string{"AWS", "memory=1", "memory-gib", "memory-gib=", "images=0", "images=-1", "images=1.5", "images=9999999", ""} {
		_, _, err := (&limits{quotas: []string{bad}}).parse()
		require.ErrorContains(t, err, "--quotas: ", bad)
	}
	_, _, err := (&limits{rates: []string{"Run=1"}}).parse()
	require.EqualError(t, err, `--rate-limits: there is no operation "Run"; is it RunMicrovm?`)
}
