package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const causeDelete = "delete"

// What is left of something that could not be deleted, as events tell it.
const (
	filesLeft  = "files could not be removed"
	recordLeft = "its record could not be removed"
)

// removal takes away the files of something, then its record, and says which of them is left. Each
// has a time of its own: removing gigabytes takes a while.
func removal(files, record func(context.Context) error) (left string, err error) {
	if err := inRecordTime(files); err != nil {
		return filesLeft, err
	}
	if err := inRecordTime(record); err != nil {
		return recordLeft, err
	}
	return "", nil
}

func inRecordTime(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	return f(ctx)
}

// Delete begins to remove an image. Errors: store.ErrInUse while microVMs of it are alive,
// store.ErrConflict when its state does not allow it, store.ErrNotFound, ErrClosing.
func (m *Manager) Delete(ctx context.Context, imageID string) error {
	err := m.cfg.Records.BeginDeleteImage(ctx, imageID, store.SettledImageStates, store.Event{
		Subject: imageID, Operation: "delete", Cause: causeAPI, RequestID: microvm.RequestIDFrom(ctx), At: m.cfg.Clock.Now(),
	})
	if err != nil {
		return fmt.Errorf("delete image: %w", err)
	}
	return m.background(func(context.Context) { m.remove(imageID, microvm.RequestIDFrom(ctx)) })
}

// remove takes away what a DELETING image has on disk, and then its rows. What it does not come
// to, Recover does; an image that cannot be removed is DELETE_FAILED.
func (m *Manager) remove(imageID, requestID string) {
	left, err := removal(
		func(ctx context.Context) error { return m.removeFiles(ctx, imageID) },
		func(ctx context.Context) error { return m.cfg.Records.DeleteImage(ctx, imageID) },
	)
	if err == nil {
		return
	}
	m.cfg.Log.Error("image could not be deleted", "image", imageID, "error", err)
	now := m.cfg.Clock.Now()
	change := store.ImageChange{
		ImageID: imageID, From: []string{store.ImageDeleting}, To: store.ImageDeleteFailed, At: now,
		Events: []store.Event{{
			Subject: imageID, Operation: "delete", From: store.ImageDeleting, To: store.ImageDeleteFailed,
			Cause: causeDelete, RequestID: requestID, Detail: left, At: now,
		}},
	}
	if err := inRecordTime(func(ctx context.Context) error { return m.cfg.Records.ChangeImage(ctx, change) }); err != nil {
		m.cfg.Log.Error("image could not be marked as DELETE_FAILED", "image", imageID, "error", err)
	}
}

func (m *Manager) removeFiles(ctx context.Context, imageID string) error {
	err := everyPage(ctx, func(ctx context.Context, page store.Page) (int64, error) {
		versions, next, err := m.cfg.Records.ListVersions(ctx, imageID, page)
		for _, v := range versions {
			m.cfg.VMs.ForgetImage(imageID, v.Version)
			if err := m.removeLogs(ctx, v); err != nil {
				return 0, err
			}
		}
		return next, err
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(filepath.Dir(microvm.ImageDir(m.cfg.Dir, imageID, "any")))
}

func (m *Manager) removeLogs(ctx context.Context, v store.ImageVersion) error {
	return everyPage(ctx, func(ctx context.Context, page store.Page) (int64, error) {
		builds, next, err := m.cfg.Records.ListBuilds(ctx, v.ImageID, v.Version, page)
		for _, b := range builds {
			log := LogFile(m.cfg.Dir, b.ID)
			for _, path := range []string{log, partsFile(log)} {
				if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
					return 0, fmt.Errorf("remove build log: %w", err)
				}
			}
		}
		return next, err
	})
}

// everyPage calls f for one page of a list after the other.
func everyPage(ctx context.Context, f func(context.Context, store.Page) (next int64, err error)) error {
	page := store.Page{Limit: 100}
	for {
		next, err := f(ctx, page)
		if err != nil || next == 0 {
			return err
		}
		page.After = next
	}
}
