package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/image/buildkit"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestAnUpdateMakesTheNextVersionAndInheritsNothing(t *testing.T) {
	w := newWorld(t, nil)
	i := w.create("app")
	w.wait()
	v := w.update(i)
	require.Equal(t, "2.0", v.Version)
	now, _, _ := w.readVersion(i, "2.0")
	require.Equal(t, "1.0", now.LatestActiveVersion)
	w.wait()

	now, v, b := w.readVersion(i, "2.0")
	require.Equal(t, store.ImageUpdated, now.State)
	require.Equal(t, "2.0", now.LatestActiveVersion)
	require.Equal(t, []string{store.VersionSuccessful, store.StatusActive, store.BuildSuccessful}, []string{v.State, v.Status, b.State})
	require.NotContains(t, w.spec.App.Env, "C=image", "an environment variable of the version before")
	require.Contains(t, w.spec.App.Env, "AWS_LAMBDA_MICROVM_IMAGE_VERSION=2.0")
	require.Empty(t, w.egress)
	require.Equal(t, 4096, w.spec.Size.MemoryMiB)
	_, old, _ := w.read(i)
	require.Equal(t, []string{store.VersionSuccessful, store.StatusActive}, []string{old.State, old.Status})
	for _, version := range []string{"1.0", "2.0"} {
		require.FileExists(t, filepath.Join(microvm.ImageDir(w.dir, i.ID, version), snapshot.MemoryFile))
	}
	require.Equal(t, []string{
		"create:  → CREATING (api )", "version 1.0:  → PENDING (api )",
		"version 1.0: PENDING → IN_PROGRESS (build )", "version 1.0: IN_PROGRESS → SUCCESSFUL (build )", "build 1.0: CREATING → CREATED (build )",
		"update: CREATED → UPDATING (api request-2)", "version 2.0:  → PENDING (api request-2)",
		"version 2.0: PENDING → IN_PROGRESS (build request-2)", "version 2.0: IN_PROGRESS → SUCCESSFUL (build request-2)",
		"build 2.0: UPDATING → UPDATED (build request-2)",
	}, w.told(i), "every change of state, with its cause and request")
}

func TestAFailedUpdateKeepsItsNumberAndTheVersionBefore(t *testing.T) {
	w := newWorld(t, nil)
	i := w.create("app")
	w.wait()
	built := w.built
	w.built = func(context.Context, buildkit.Build) error { return buildkit.ErrDockerfile }
	w.update(i)
	w.wait()
	now, v, b := w.readVersion(i, "2.0")
	require.Equal(t, []string{store.ImageUpdateFailed, "1.0", "2.0"}, []string{now.State, now.LatestActiveVersion, now.LatestFailedVersion})
	require.Equal(t, []string{store.VersionFailed, store.StatusInactive, store.BuildFailed}, []string{v.State, v.Status, b.State})
	require.NoDirExists(t, microvm.ImageDir(w.dir, i.ID, "2.0"))
	require.DirExists(t, microvm.ImageDir(w.dir, i.ID, "1.0"))

	w.built = built
	require.Equal(t, "3.0", w.update(i).Version, "the number of the failed one is taken")
	w.wait()
	now, _, _ = w.readVersion(i, "3.0")
	require.Equal(t, []string{store.ImageUpdated, "3.0", "2.0"}, []string{now.State, now.LatestActiveVersion, now.LatestFailedVersion})
}

func TestAnImageIsUpdatedByOneAtATime(t *testing.T) {
	w := newWorld(t, nil)
	i := w.create("app")
	w.wait()
	running, release := make(chan bool), make(chan bool)
	built := w.built
	w.built = func(ctx context.Context, b buildkit.Build) error {
		running <- true
		<-release
		return built(ctx, b)
	}
	w.update(i)
	<-running
	_, _, err := w.Update(t.Context(), i.ID, store.ImageConfig{}, nil)
	require.ErrorIs(t, err, store.ErrConflict)
	require.ErrorIs(t, w.Delete(t.Context(), i.ID), store.ErrConflict)
	require.ErrorIs(t, w.DeleteVersion(t.Context(), i.ID, "1.0"), store.ErrConflict)
	release <- true
	w.wait()
	logs, err := os.ReadDir(filepath.Dir(LogFile(w.dir, "x")))
	require.NoError(t, err)
	require.Len(t, logs, 2, "what was refused left no log")
	_, _, err = w.Update(t.Context(), "none", store.ImageConfig{}, nil)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestARestartedDaemonFailsAnInterruptedUpdate(t *testing.T) {
	w := newWorld(t, nil)
	i := w.create("app")
	w.wait()
	b := store.Build{ID: uuid.NewString(), ImageID: i.ID, State: store.BuildPending, CreatedAt: w.clock.Now()}
	v, b, err := w.store.AddVersion(t.Context(), updatable, store.ImageVersion{ImageID: i.ID, State: store.VersionPending, Status: store.StatusInactive}, b, nil, store.Event{Subject: i.ID, Operation: "update"})
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(microvm.ImageDir(w.dir, i.ID, v.Version), 0o700), "published, but not recorded")
	require.NoError(t, os.MkdirAll(filepath.Join(w.buildsDir(), b.ID), 0o700))

	require.NoError(t, w.open(nil).Recover(t.Context()))
	now, v, b := w.readVersion(i, "2.0")
	require.Equal(t, []string{store.ImageUpdateFailed, "1.0", "2.0"}, []string{now.State, now.LatestActiveVersion, now.LatestFailedVersion})
	require.Equal(t, store.VersionFailed, v.State)
	require.Contains(t, b.StateReason, "the daemon was restarted")
	require.NoDirExists(t, microvm.ImageDir(w.dir, i.ID, "2.0"))
	require.DirExists(t, microvm.ImageDir(w.dir, i.ID, "1.0"))
	told := w.told(i)
	require.Equal(t, []string{"version 2.0: PENDING → FAILED (build )", "build 2.0: UPDATING → UPDATE_FAILED (build )"}, told[len(told)-2:])
}

func TestDeletingAVersionRemovesItsFilesLogsAndRows(t *testing.T) {
	w := newWorld(t, nil)
	i := w.create("app")
	w.wait()
	require.ErrorIs(t, w.DeleteVersion(t.Context(), i.ID, "1.0"), store.ErrLastVersion)
	w.update(i)
	w.wait()
	_, _, b := w.readVersion(i, "1.0")
	vm := store.MicroVM{ID: "microvm-1", AccountID: account, Region: region, ImageID: i.ID, ImageVersion: "1.0", State: store.VMRunning, EndpointID: "e", StartedAt: w.clock.Now()}
	require.NoError(t, w.store.InsertMicroVM(t.Context(), vm, nil, store.Event{Subject: vm.ID, Operation: "launch"}))
	require.ErrorIs(t, w.DeleteVersion(t.Context(), i.ID, "1.0"), store.ErrInUse)
	require.Empty(t, w.forgotten)
	vm.State, vm.TerminatedAt = store.VMTerminated, w.clock.Now()
	require.NoError(t, w.store.TransitionMicroVM(t.Context(), vm, store.VMRunning, store.Event{Subject: vm.ID}))

	ctx := microvm.WithRequestID(t.Context(), "request-3")
	require.NoError(t, w.DeleteVersion(ctx, i.ID, "1.0"))
	w.wait()
	now, err := w.store.Image(t.Context(), i.ID)
	require.NoError(t, err)
	require.Equal(t, []string{store.ImageUpdated, "2.0"}, []string{now.State, now.LatestActiveVersion})
	_, err = w.store.Version(t.Context(), i.ID, "1.0")
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = w.store.Build(t.Context(), b.ID)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoFileExists(t, LogFile(w.dir, b.ID))
	require.NoDirExists(t, microvm.ImageDir(w.dir, i.ID, "1.0"))
	require.DirExists(t, microvm.ImageDir(w.dir, i.ID, "2.0"))
	require.Equal(t, []string{"1.0"}, w.forgotten, "its warm processes are ended")
	told := w.told(i)
	require.Equal(t, []string{
		"delete version 1.0: UPDATED → UPDATING (api request-3)", "version 1.0: SUCCESSFUL → DELETING (api request-3)",
		"delete version 1.0: UPDATING → UPDATED (delete request-3)", "version 1.0: DELETING → DELETED (delete request-3)",
	}, told[len(told)-4:])
	require.ErrorIs(t, w.DeleteVersion(t.Context(), i.ID, "1.0"), store.ErrNotFound)
}

func TestARestartedDaemonFinishesTheDeletionOfAVersion(t *testing.T) {
	w := newWorld(t, nil)
	i := w.create("app")
	w.wait()
	w.update(i)
	w.wait()
	e := store.Event{Subject: i.ID, Operation: "delete version 1.0", At: w.clock.Now()}
	require.NoError(t, w.store.BeginDeleteVersion(t.Context(), i.ID, "1.0", updatable, e))
	require.NoError(t, os.Remove(filepath.Join(microvm.ImageDir(w.dir, i.ID, "1.0"), snapshot.MemoryFile)), "it had begun")
	require.NoError(t, w.open(nil).Recover(t.Context()))
	now, err := w.store.Image(t.Context(), i.ID)
	require.NoError(t, err)
	require.Equal(t, store.ImageUpdated, now.State)
	_, err = w.store.Version(t.Context(), i.ID, "1.0")
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoDirExists(t, microvm.ImageDir(w.dir, i.ID, "1.0"))
	require.NoError(t, w.Recover(t.Context()), "again is no harm")
}

// stuck are records whose rows of versions cannot be removed. They keep how long their callers wait.
type stuck struct {
	Records
	err           error
	files, record time.Time // until when, at most
}

func (s *stuck) ListBuilds(ctx context.Context, imageID, version string, p store.Page) ([]store.Build, int64, error) {
	s.files, _ = ctx.Deadline()
	return s.Records.ListBuilds(ctx, imageID, version, p)
}

func (s *stuck) DeleteVersion(ctx context.Context, imageID, version string, e store.Event) error {
	s.record, _ = ctx.Deadline()
	if s.err != nil {
		return s.err
	}
	return s.Records.DeleteVersion(ctx, imageID, version, e)
}

func TestAVersionThatCannotBeRemovedSaysSoAndCanBeDeletedAgain(t *testing.T) {
	records := &stuck{err: errors.New("disk full")}
	w := newWorld(t, func(c *Config) { records.Records, c.Records = c.Records, records })
	i := w.create("app")
	w.wait()
	w.update(i)
	w.wait()
	require.NoError(t, w.DeleteVersion(t.Context(), i.ID, "1.0"))
	w.wait()
	now, v, _ := w.read(i)
	require.Equal(t, store.ImageUpdateFailed, now.State)
	require.Equal(t, store.VersionDeleteFailed, v.State)
	require.Equal(t, "2.0", now.LatestActiveVersion)
	events, _, err := w.store.Events(t.Context(), i.ID, store.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, recordLeft, events[0].Detail)
	require.True(t, records.record.After(records.files), "what removing files took is not missing from the time for the record")
	records.err = nil
	require.NoError(t, w.DeleteVersion(t.Context(), i.ID, "1.0"))
	w.wait()
	now, err = w.store.Image(t.Context(), i.ID)
	require.NoError(t, err)
	require.Equal(t, store.ImageUpdated, now.State)
}
