package kvm

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSpeedIsInstructionsPerSecond(t *testing.T) {
	require.InDelta(t, 2e6, Speed{Instructions: 1e6, Elapsed: 500 * time.Millisecond}.PerSecond(), 1)
	require.Zero(t, Speed{Instructions: 5}.PerSecond(), "no time, no speed")
}

// What KVM can do here is the host's matter; that the probe ends soon and says something is ours.
func TestTheProbeEndsInBoundedTimeOnEveryHost(t *testing.T) {
	began := time.Now()
	speed, err := Probe(t.Context())
	t.Logf("%.1f million instructions/s, %v, %v", speed.PerSecond()/1e6, speed, err)
	require.Less(t, time.Since(began), timeout+grace+2*time.Second)
	if err == nil {
		require.Positive(t, speed.Elapsed)
	}
	t.Log(Usable(t.Context()))
}

func TestTheProbeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	_, _ = Probe(ctx)
	require.Less(t, time.Since(began), grace+2*time.Second)
}
