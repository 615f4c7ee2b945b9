package image

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/dormouse-dev/dormouse/internal/loggroup"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const causeAPI = "api"

// Create adds an image, of which the caller sets ID, AccountID, Region, Name and Tags, with its
// first version, and begins to build that. The token, if not nil, is claimed in the transaction
// that adds the rows. Errors: store.ErrExists for the name, store.ErrTokenUsed, *store.QuotaError.
func (m *Manager) Create(ctx context.Context, i store.Image, config store.ImageConfig, token *store.ClientToken) (store.Image, store.ImageVersion, error) {
	if err := m.makeDirs(); err != nil {
		return store.Image{}, store.ImageVersion{}, err
	}
	now := m.cfg.Clock.Now()
	i.State, i.CreatedAt, i.UpdatedAt = store.ImageCreating, now, now
	v := store.ImageVersion{
		ImageID: i.ID, Version: "1.0", Major: 1, State: store.VersionPending, Status: store.StatusInactive,
		Config: config, CreatedAt: now, UpdatedAt: now,
	}
	b := store.Build{ID: uuid.NewString(), ImageID: i.ID, Version: v.Version, State: store.BuildPending, CreatedAt: now}
	log, err := createLog(LogFile(m.cfg.Dir, b.ID), loggroup.Disabled(config.WireLogging))
	if err != nil {
		return store.Image{}, store.ImageVersion{}, err
	}
	err = m.cfg.Records.CreateImage(ctx, i, v, b, token, store.Event{
		Subject: i.ID, Operation: "create", To: i.State, Cause: causeAPI, RequestID: microvm.RequestIDFrom(ctx), At: now,
	})
	if err != nil {
		log.discard()
		return store.Image{}, store.ImageVersion{}, fmt.Errorf("create image: %w", err)
	}
	m.begin(ctx, i, v, b, log)
	return i, v, nil
}

// updatable are the states in which an image can get another version. One whose deletion failed
// has lost files, so it can only be deleted.
var updatable = []string{store.ImageCreated, store.ImageCreateFailed, store.ImageUpdated, store.ImageUpdateFailed}

// Update gives an image its next version, which has nothing of the one before, and begins to build
// it. The token, if not nil, is claimed in the transaction that adds the rows.
// Errors: store.ErrConflict when the image's state does not allow it, store.ErrTokenUsed,
// store.ErrNotFound, *store.QuotaError.
func (m *Manager) Update(ctx context.Context, imageID string, config store.ImageConfig, token *store.ClientToken) (store.Image, store.ImageVersion, error) {
	if err := m.makeDirs(); err != nil {
		return store.Image{}, store.ImageVersion{}, err
	}
	i, err := m.cfg.Records.Image(ctx, imageID)
	if err != nil {
		return store.Image{}, store.ImageVersion{}, fmt.Errorf("update image: %w", err)
	}
	now := m.cfg.Clock.Now()
	v := store.ImageVersion{
		ImageID: imageID, State: store.VersionPending, Status: store.StatusInactive,
		Config: config, CreatedAt: now, UpdatedAt: now,
	}
	b := store.Build{ID: uuid.NewString(), ImageID: imageID, State: store.BuildPending, CreatedAt: now}
	log, err := createLog(LogFile(m.cfg.Dir, b.ID), loggroup.Disabled(config.WireLogging))
	if err != nil {
		return store.Image{}, store.ImageVersion{}, err
	}
	v, b, err = m.cfg.Records.AddVersion(ctx, updatable, v, b, token, store.Event{
		Subject: imageID, Operation: "update", Cause: causeAPI, RequestID: microvm.RequestIDFrom(ctx), At: now,
	})
	if err != nil {
		log.discard()
		return store.Image{}, store.ImageVersion{}, fmt.Errorf("update image: %w", err)
	}
	i.State, i.UpdatedAt = store.ImageUpdating, now
	m.begin(ctx, i, v, b, log)
	return i, v, nil
}

// begin starts the build of a version whose rows exist. Whatever created them, a create or a
// later update, the build is the same; how it ends follows from the image's state.
func (m *Manager) begin(ctx context.Context, i store.Image, v store.ImageVersion, b store.Build, log *buildLog) {
	p := newPipeline(m, i, v, b, log)
	p.requestID = microvm.RequestIDFrom(ctx)
	if err := m.background(p.run); err != nil {
		p.fail(errInterrupted)
	}
}
