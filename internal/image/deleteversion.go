package image

import (
	"context"
	"fmt"
	"os"

	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// DeleteVersion begins to remove one version of an image, which is UPDATING until that is done.
// Errors: store.ErrInUse while microVMs of it are alive, store.ErrLastVersion, store.ErrConflict
// when the image's state does not allow it, store.ErrNotFound, ErrClosing.
func (m *Manager) DeleteVersion(ctx context.Context, imageID, version string) error {
	v := store.ImageVersion{ImageID: imageID, Version: version}
	e := m.versionDeletion(v, microvm.RequestIDFrom(ctx))
	e.Cause = causeAPI
	if err := m.cfg.Records.BeginDeleteVersion(ctx, imageID, version, updatable, e); err != nil {
		return fmt.Errorf("delete version: %w", err)
	}
	return m.background(func(context.Context) { m.removeVersion(v, e.RequestID) })
}

// versionDeletion is what the events of a version's deletion have in common.
func (m *Manager) versionDeletion(v store.ImageVersion, requestID string) store.Event {
	return store.Event{
		Subject: v.ImageID, Operation: "delete version " + v.Version,
		Cause: causeDelete, RequestID: requestID, At: m.cfg.Clock.Now(),
	}
}

// removeVersion takes away what a DELETING version has on disk, and then its row. What it does not
// come to, Recover does; one that cannot be removed is DELETE_FAILED, and can be deleted again.
func (m *Manager) removeVersion(v store.ImageVersion, requestID string) {
	left, err := removal(
		func(ctx context.Context) error { return m.removeVersionFiles(ctx, v) },
		func(ctx context.Context) error {
			return m.cfg.Records.DeleteVersion(ctx, v.ImageID, v.Version, m.versionDeletion(v, requestID))
		},
	)
	if err == nil {
		return
	}
	m.cfg.Log.Error("image version could not be deleted", "image", v.ImageID, "version", v.Version, "request", requestID, "error", err)
	e := m.versionDeletion(v, requestID)
	e.From, e.To, e.Detail = store.ImageUpdating, store.ImageUpdateFailed, left
	change := store.ImageChange{
		ImageID: v.ImageID, From: []string{store.ImageUpdating}, To: store.ImageUpdateFailed, At: e.At,
		Version: v.Version, VersionState: store.VersionDeleteFailed,
		Events: []store.Event{e.OfVersion(v.Version, store.VersionDeleting, store.VersionDeleteFailed), e},
	}
	if err := inRecordTime(func(ctx context.Context) error { return m.cfg.Records.ChangeImage(ctx, change) }); err != nil {
		m.cfg.Log.Error("image version could not be marked as DELETE_FAILED", "image", v.ImageID, "version", v.Version, "error", err)
	}
}

func (m *Manager) removeVersionFiles(ctx context.Context, v store.ImageVersion) error {
	m.cfg.VMs.ForgetImage(v.ImageID, v.Version)
	if err := m.removeLogs(ctx, v); err != nil {
		return err
	}
	return os.RemoveAll(microvm.ImageDir(m.cfg.Dir, v.ImageID, v.Version))
}
