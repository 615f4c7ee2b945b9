package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestLogsGoWithTheRowOfTheirMicroVM(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	records, err := store.Open(ctx, filepath.Join(dir, databaseFile))
	require.NoError(t, err)
	defer records.Close()
	now := time.Now()
	_, err = records.EnsureDefaults(ctx, now)
	require.NoError(t, err)
	i := store.Image{ID: "image", AccountID: store.DefaultAccountID, Region: "us-east-1", Name: "app", State: store.ImageCreated}
	v := store.ImageVersion{ImageID: i.ID, Version: "1.0", Major: 1, State: store.VersionSuccessful, Status: store.StatusActive}
	require.NoError(t, records.CreateImage(ctx, i, v, store.Build{ID: "build", ImageID: i.ID, Version: "1.0"}, nil, store.Event{Subject: i.ID}))
	logs := logfile.NewFolder(filepath.Join(dir, vmLogs), 0)
	for id, ended := range map[string]time.Duration{"old": 2 * time.Hour, "recent": time.Minute, "alive": 0} {
		vm := store.MicroVM{ID: id, AccountID: i.AccountID, Region: i.Region, ImageID: i.ID, EndpointID: id, State: store.VMRunning}
		require.NoError(t, records.InsertMicroVM(ctx, vm, nil, store.Event{Subject: id}))
		if ended > 0 {
			vm.State, vm.TerminatedAt = store.VMTerminated, now.Add(-ended)
			require.NoError(t, records.TransitionMicroVM(ctx, vm, store.VMRunning, store.Event{Subject: id}))
		}
		require.NoError(t, logs.Append(id, logfile.ConsoleName, []byte("x")))
	}
	require.NoError(t, logs.Append("orphan", logfile.ConsoleName, []byte("x")))

	done := make(chan struct{})
	go func() {
		defer close(done)
		purge(ctx, records, logs, time.Hour, slog.New(slog.NewTextHandler(t.Output(), nil)))
	}()
	require.Eventually(t, func() bool {
		ids, err := logs.IDs()
		return err == nil && len(ids) == 2
	}, 10*time.Second, time.Millisecond)
	cancel()
	<-done
	ids, err := logs.IDs()
	require.NoError(t, err)
	require.Equal(t, []string{"alive", "recent"}, ids)
}
