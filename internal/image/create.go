package image

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const causeAPI = "api"

// Create adds an image, of which the caller sets ID, AccountID, Region, Name and Tags, with its
// first version, and begins to build that. The token, if not nil, is claimed in the transaction
// that adds the rows. Errors: store.ErrExists for the name, store.ErrTokenUsed, ErrClosing.
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
	log, err := createLog(LogFile(m.cfg.Dir, b.ID))
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
	m.begin(i, v, b, log)
	return i, v, nil
}

// begin starts the build of a version whose rows exist. Whatever created them, a create or a
// later update, the build is the same; how it ends follows from the image's state.
func (m *Manager) begin(i store.Image, v store.ImageVersion, b store.Build, log *buildLog) {
	p := newPipeline(m, i, v, b, log)
	if err := m.background(p.run); err != nil {
		p.fail(errInterrupted)
	}
}
