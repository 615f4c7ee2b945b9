package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func phases(durations ...time.Duration) []store.Phase {
	names := []string{"queue", "load", "agent"}
	list := make([]store.Phase, len(durations))
	for i, d := range durations {
		list[i] = store.Phase{Name: names[i], Duration: d}
	}
	return list
}

func TestPhasesAddUpToTheClientsTotal(t *testing.T) {
	all, err := complete(phases(1, 20, 300), 1000)
	require.NoError(t, err)
	require.Equal(t, store.Phase{Name: requestPhase, Duration: 679}, all[3])
}

func TestPhasesLongerThanTheTotalAreAnError(t *testing.T) {
	_, err := complete(phases(1, 20, 300), 320)
	require.Error(t, err)
}

func TestPhaseTableHasOneRoundThatAddsUp(t *testing.T) {
	var operations []operation
	for _, round := range [][]time.Duration{{10, 50, 40}, {30, 10, 20}, {90, 60, 50}} {
		operations = append(operations, operation{total: round[0] + round[1] + round[2], phases: phases(round...)})
	}
	require.Equal(t, []phaseRow{
		{Name: "queue", P50: 30, Median: 10},
		{Name: "load", P50: 50, Median: 50},
		{Name: "agent", P50: 40, Median: 40},
	}, phaseTable(operations), "the totals are 100, 60 and 200; the first round is the median")
	require.Empty(t, phaseTable(nil))
}

func TestDirtyBytesComeFromTheSuspendEvent(t *testing.T) {
	dirty, err := operation{detail: "4194304 bytes dirty"}.dirtyBytes()
	require.NoError(t, err)
	require.Equal(t, int64(4<<20), dirty)
	_, err = operation{detail: "idle"}.dirtyBytes()
	require.Error(t, err)
}
