package microvm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestDetailsTellWhatAMicroVMHasOnTheHost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		d, ok := w.Details(id)
		require.True(t, ok)
		require.Equal(t, uint64(1), d.Generation)
		require.Equal(t, 4711, d.VMMPID)
		require.Positive(t, d.DiskBytes)
		require.Zero(t, d.CheckpointBytes)
		require.WithinDuration(t, time.Now(), d.LastTraffic, time.Second)
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		d, _ = w.Details(id)
		require.Zero(t, d.VMMPID)
		require.Positive(t, d.CheckpointBytes)
		require.NoError(t, w.Terminate(t.Context(), id))
		w.becomes(id, store.VMTerminated)
		_, ok = w.Details(id)
		require.False(t, ok)
	})
}
