package endpoint

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/microvm"
)

func TestTheServicesLimitsGrowWithTheVM(t *testing.T) {
	limits, err := ParseLimits([]string{"aws"})
	require.NoError(t, err)
	require.Equal(t, Limit{Connections: 32, Requests: 40, Bandwidth: 4 << 20}, limits[2048])
	require.Equal(t, Limit{Connections: 128, Requests: 160, Bandwidth: 16 << 20}, limits[8192])
	for class, limit := range limits {
		size, ok := microvm.SizeOf(class)
		require.True(t, ok)
		require.Equal(t, Limit{8 * size.CPUs, 10 * size.CPUs, size.CPUs << 20}, limit)
	}
	require.Len(t, limits, 5)
}

func TestLaterItemsWin(t *testing.T) {
	limits, err := ParseLimits([]string{"connections=7", "aws", "requests=100", "bandwidth-mb=3", "bandwidth-mb=off"})
	require.NoError(t, err)
	require.Equal(t, Limit{Connections: 8, Requests: 100}, limits[512])
	require.Equal(t, Limit{Connections: 128, Requests: 100}, limits[8192])

	limits, err = ParseLimits([]string{"bandwidth-mb=8"})
	require.NoError(t, err)
	require.Equal(t, Limit{Bandwidth: 8 << 20}, limits[4096])
}

func TestWithoutLimitsThereIsNoLimiter(t *testing.T) {
	for _, items := range [][]string{nil, {"requests=5", "requests=off"}} {
		limits, err := ParseLimits(items)
		require.NoError(t, err)
		require.Empty(t, limits)
		require.Nil(t, newLimiter(limits, nil))
	}
	var off *limiter
	require.Zero(t, testing.AllocsPerRun(100, func() {
		tally, refusal := off.admit(nil, nil)
		require.True(t, tally == nil && refusal == nil)
	}))
}

func TestMistakesInLimitsAreRefused(t *testing.T) {
	for _, bad := range []string{"", "AWS", "requests", "requests=", "requests=0", "requests=-1", "requests=1.5", "requests=9999999", "rps=5", "bandwidth=8"} {
		_, err := ParseLimits([]string{bad})
		require.Error(t, err, bad)
	}
	_, err := ParseLimits([]string{"rps=5"})
	require.EqualError(t, err, `"rps=5" is neither aws nor NAME=N with one of the names bandwidth-mb, connections, requests`)
}
