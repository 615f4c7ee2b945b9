package microvm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestASurveyAddsUpAndItsTotalsNeverGoBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := w.run(nil)
		w.guests.last().networkBytes.Store(100)
		second := w.run(nil)
		w.guests.last().networkBytes.Store(10)
		survey := w.Survey()
		require.Equal(t, map[string]int{store.VMRunning: 2}, survey.States)
		require.Len(t, survey.VMMs, 2)
		require.EqualValues(t, 110, survey.Network.BytesIn)
		require.EqualValues(t, 110, w.Survey().Network.BytesIn, "nothing is added twice")

		w.guests.last().networkBytes.Store(15)
		before := w.vm(second).view.Load().session
		require.NoError(t, w.Suspend(t.Context(), second))
		w.becomes(second, store.VMSuspended)
		w.settles()
		require.EqualValues(t, 115, w.Survey().Network.BytesIn, "what came last is in it")
		require.NoError(t, w.Resume(t.Context(), second))
		w.becomes(second, store.VMRunning)
		w.guests.last().networkBytes.Store(1)
		require.EqualValues(t, 116, w.Survey().Network.BytesIn)
		(*vm)(w.vm(second)).count(before, false) // by a survey that was overtaken
		require.EqualValues(t, 116, w.Survey().Network.BytesIn)

		require.NoError(t, w.Terminate(t.Context(), first))
		w.becomes(first, store.VMTerminated)
		survey = w.Survey()
		require.EqualValues(t, 116, survey.Network.BytesIn)
		require.Len(t, survey.VMMs, 1)
		require.Zero(t, survey.Parked)
	})
}
