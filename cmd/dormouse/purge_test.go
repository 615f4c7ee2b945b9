package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// addTerminated stores microVMs that were terminated at a time.
func (f *folder) addTerminated(at time.Time, ids ...string) {
	f.t.Helper()
	ctx := f.t.Context()
	i := store.Image{ID: "image", AccountID: store.DefaultAccountID, Region: "us-east-1", Name: "app", State: store.ImageCreated}
	v := store.ImageVersion{ImageID: i.ID, Version: "1.0", Major: 1, State: store.VersionSuccessful, Status: store.StatusActive}
	b := store.Build{ID: "build", ImageID: i.ID, Version: v.Version, EndedAt: at}
	if err := f.records.CreateImage(ctx, i, v, b, nil, store.Event{Subject: i.ID}); err != nil {
		require.ErrorIs(f.t, err, store.ErrExists)
	}
	for _, id := range ids {
		vm := store.MicroVM{ID: id, AccountID: i.AccountID, Region: i.Region, ImageID: i.ID, ImageVersion: v.Version, State: store.VMPending, EndpointID: id}
		require.NoError(f.t, f.records.InsertMicroVM(ctx, vm, nil, store.Event{Subject: id}))
		vm.State, vm.TerminatedAt = store.VMTerminated, at
		require.NoError(f.t, f.records.TransitionMicroVM(ctx, vm, store.VMPending, store.Event{Subject: id}))
	}
}

// listed returns the ids of the microVMs there are, newest first.
func (f *folder) listed() (ids []string) {
	f.t.Helper()
	vms, _, err := f.records.ListMicroVMs(f.t.Context(), store.DefaultAccountID, "us-east-1", store.VMFilter{}, store.Page{Limit: 1000})
	require.NoError(f.t, err)
	for _, vm := range vms {
		ids = append(ids, vm.ID)
	}
	return ids
}

// logs is where the logs of the folder's microVMs are.
func (f *folder) logs() *logfile.Folder { return logfile.NewFolder(filepath.Join(f.dir, vmLogs), 0) }

func TestTerminatedMicroVMsStayListedAsLongAsConfigured(t *testing.T) {
	f := newFolder(t)
	clock := clockwork.NewFakeClock()
	const keep = time.Hour
	f.addTerminated(clock.Now().Add(-keep-time.Second), "long-ago")
	f.addTerminated(clock.Now(), "just-now")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		purge(ctx, f.records, f.logs(), keep, clock, slog.New(slog.DiscardHandler))
	}()
	require.Eventually(t, func() bool { return len(f.listed()) == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, []string{"just-now"}, f.listed())

	require.NoError(t, clock.BlockUntilContext(ctx, 1))
	clock.Advance(keep + time.Second)
	require.Eventually(t, func() bool { return len(f.listed()) == 0 }, 10*time.Second, time.Millisecond)
	events, _, err := f.records.Events(ctx, "just-now", store.Page{Limit: 1})
	require.NoError(t, err)
	require.Empty(t, events, "its events go with it")
	cancel()
	<-ended
}

func TestManyTerminatedMicroVMsGoInOnePass(t *testing.T) {
	f := newFolder(t)
	at := time.Now().Add(-time.Hour)
	var ids []string
	for n := range 2*purgeBatch + 1 {
		ids = append(ids, fmt.Sprint("microvm-", n))
	}
	f.addTerminated(at, ids...)
	purgeOnce(t.Context(), f.records, f.logs(), at, slog.New(slog.DiscardHandler))
	require.Len(t, f.listed(), len(ids), "terminated at that time, not before")
	purgeOnce(t.Context(), f.records, f.logs(), at.Add(time.Nanosecond), slog.New(slog.DiscardHandler))
	require.Empty(t, f.listed())
}

func TestPurgingFollowsTheTimeKept(t *testing.T) {
	for keep, want := range map[time.Duration]time.Duration{0: time.Second, time.Minute: 15 * time.Second, 24 * time.Hour: time.Hour} {
		require.Equal(t, want, purgeEvery(keep))
	}
}

func TestLogsGoWithTheRowOfTheirMicroVM(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	records, err := store.Open(ctx, filepath.Join(dir, databaseFile), store.Quotas{})
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
		vm := store.MicroVM{ID: id, AccountID: i.AccountID, Region: i.Region, ImageID: i.ID, ImageVersion: v.Version, EndpointID: id, State: store.VMRunning}
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
		purge(ctx, records, logs, time.Hour, clockwork.NewRealClock(), slog.New(slog.NewTextHandler(t.Output(), nil)))
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
