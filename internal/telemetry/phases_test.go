package telemetry

import (
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestPhasesAddUpToTheTotal(t *testing.T) {
	clock := clockwork.NewFakeClock()
	p := Begin(clock, "queue")
	clock.Advance(3 * time.Millisecond)
	p.Next("vmm")
	clock.Advance(5 * time.Millisecond)
	p.Next("agent")
	clock.Advance(20 * time.Millisecond)
	p.Split("hook", 12*time.Millisecond)
	clock.Advance(time.Millisecond) // between phases: counted with the last one
	got := p.End()

	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	require.Equal(t, []store.Phase{{Name: "queue", Duration: ms(3)}, {Name: "vmm", Duration: ms(5)},
		{Name: "agent", Duration: ms(8)}, {Name: "hook", Duration: ms(13)}}, got)
	var total time.Duration
	for _, phase := range got {
		total += phase.Duration
	}
	require.Equal(t, ms(29), total)
}

func TestSplitNeverTakesMoreThanThePhaseHad(t *testing.T) {
	clock := clockwork.NewFakeClock()
	p := Begin(clock, "agent")
	clock.Advance(time.Millisecond)
	p.Split("hook", time.Hour) // a guest's clock is not to be trusted
	require.Equal(t, []store.Phase{{Name: "agent", Duration: 0}, {Name: "hook", Duration: time.Millisecond}}, p.End())
}
