package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Recover brings rows and files back in line after the daemon has stopped in the middle of
// something: builds that were under way are failed and leave nothing but their log, and images
// and versions that were being deleted are removed. It has to run before the first request.
func (m *Manager) Recover(ctx context.Context) error {
	if err := m.makeDirs(); err != nil {
		return err
	}
	if err := m.failUnfinished(ctx); err != nil {
		return err
	}
	if err := emptyFolder(m.buildsDir()); err != nil {
		return fmt.Errorf("remove what builds left behind: %w", err)
	}
	images, err := m.cfg.Records.UnfinishedImages(ctx)
	if err != nil {
		return fmt.Errorf("recover images: %w", err)
	}
	for _, i := range images {
		if err := m.finishDeletion(ctx, i); err != nil {
			return fmt.Errorf("recover image %s: %w", i.ID, err)
		}
	}
	return nil
}

// finishDeletion goes on with the deletion of an image, or of a version of it.
func (m *Manager) finishDeletion(ctx context.Context, i store.Image) error {
	if i.State == store.ImageDeleting {
		m.remove(i.ID, "")
		return nil
	}
	versions, err := m.cfg.Records.DeletingVersions(ctx, i.ID)
	for _, v := range versions {
		m.removeVersion(v, "")
	}
	return err
}

func (m *Manager) failUnfinished(ctx context.Context) error {
	builds, err := m.cfg.Records.UnfinishedBuilds(ctx)
	if err != nil {
		return fmt.Errorf("recover builds: %w", err)
	}
	for _, b := range builds {
		i, err := m.cfg.Records.Image(ctx, b.ImageID)
		if err != nil {
			return fmt.Errorf("recover build %s: %w", b.ID, err)
		}
		// It may have come as far as here, but not into the record.
		if err := os.RemoveAll(microvm.ImageDir(m.cfg.Dir, i.ID, b.Version)); err != nil {
			return fmt.Errorf("recover build %s: %w", b.ID, err)
		}
		log, err := openLog(LogFile(m.cfg.Dir, b.ID))
		if err != nil {
			return fmt.Errorf("recover build %s: %w", b.ID, err)
		}
		newPipeline(m, i, store.ImageVersion{ImageID: i.ID, Version: b.Version, State: b.State}, b, log).fail(errInterrupted)
	}
	return nil
}

func emptyFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
