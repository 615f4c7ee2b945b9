package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/endpoint"
)

func TestLimitsOfTrafficComeFromFlags(t *testing.T) {
	cfg := endpoint.Config{}
	require.NoError(t, (&traffic{vmLimits: []string{"aws", "requests=7"}, maxConnections: 50}).configure(&cfg))
	require.Equal(t, 50, cfg.MaxConnections)
	require.Equal(t, endpoint.Limit{Connections: 8, Requests: 7, Bandwidth: 1 << 20}, cfg.Limits[512])

	cfg = endpoint.Config{}
	require.NoError(t, (&traffic{maxConnections: 1}).configure(&cfg))
	require.Empty(t, cfg.Limits, "none by default")
}

func TestMistakesInLimitsOfTrafficAreRefused(t *testing.T) {
	require.EqualError(t, (&traffic{maxConnections: 0}).configure(&endpoint.Config{}), "--max-connections 0: it is 1 or more")
	require.ErrorContains(t, (&traffic{vmLimits: []string{"rps=1"}, maxConnections: 1}).configure(&endpoint.Config{}), "--vm-limits: ")
}
