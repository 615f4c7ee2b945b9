package microvm

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

func TestABuildThatIsGivenUpDoesNotWaitForTheBuilderOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBuilders(&Manager{clock: clockwork.NewRealClock()}, BuilderConfig{Snapshots: t.TempDir()})
		b.making <- struct{}{} // another build makes the snapshot
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.Prepare(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestTheBuildersSnapshotIsMadeByOneDaemonAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBuilders(&Manager{clock: clockwork.NewRealClock()}, BuilderConfig{})
		path := filepath.Join(t.TempDir(), "lock")
		unlock, err := b.lock(t.Context(), path)
		require.NoError(t, err)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = b.lock(ctx, path)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		time.AfterFunc(time.Minute, unlock)
		began := time.Now()
		again, err := b.lock(t.Context(), path)
		require.NoError(t, err)
		require.InDelta(t, time.Minute, time.Since(began), float64(lockPoll))
		again()
	})
}
