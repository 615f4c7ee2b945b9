package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrLastVersion means that an image has no other version; nothing was written.
var ErrLastVersion = errors.New("the last version of its image")

// BeginDeleteVersion moves a version to DELETING, and its image from one of the states from to
// UPDATING: from then on no microVM can be started from it, and nothing else happens to the image.
// e gets the states of the image. ErrNotFound: there is no such version. ErrConflict: the image is
// in another state. ErrInUse: microVMs of the version are alive. ErrLastVersion.
func (s *Store) BeginDeleteVersion(ctx context.Context, imageID, version string, from []string, e Event) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		var state string
		var versions int
		err := tx.QueryRowContext(ctx, `SELECT images.state, v.state, (SELECT count(*) FROM image_versions WHERE image_id = images.id)
			FROM images JOIN image_versions v ON v.image_id = images.id WHERE images.id = ? AND v.version = ?`, imageID, version).
			Scan(&e.From, &state, &versions)
		if err != nil {
			return missing(err)
		}
		if err := changeImageState(ctx, tx, ImageChange{ImageID: imageID, From: from, To: ImageUpdating, At: e.At}); err != nil {
			return err
		}
		if versions == 1 {
			return ErrLastVersion
		}
		if err := unused(ctx, tx, imageID, version); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE image_versions SET state = ?, updated_at = ? WHERE image_id = ? AND version = ?`,
			VersionDeleting, nanos(e.At), imageID, version)
		if err != nil {
			return err
		}
		e.To = ImageUpdating
		return s.addEvents(ctx, tx, []Event{e, e.OfVersion(version, state, VersionDeleting)})
	})
	if err != nil {
		return fmt.Errorf("delete version %s of image %s: %w", version, imageID, err)
	}
	return nil
}

// DeleteVersion removes a version that is DELETING, with its builds and client tokens, and moves
// its image from UPDATING to UPDATED; e gets these states. ErrNotFound: there is no such version.
func (s *Store) DeleteVersion(ctx context.Context, imageID, version string, e Event) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM image_versions WHERE image_id = ? AND version = ? AND state = ?`,
			imageID, version, VersionDeleting)
		if err := mustChange(res, err, ErrNotFound); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM client_tokens WHERE result_id = ? AND result_version = ?`, imageID, version)
		if err != nil {
			return err
		}
		change := ImageChange{ImageID: imageID, From: []string{ImageUpdating}, To: ImageUpdated, At: e.At}
		if err := changeImageState(ctx, tx, change); err != nil {
			return err
		}
		e.From, e.To = ImageUpdating, ImageUpdated
		return s.addEvents(ctx, tx, []Event{e, e.OfVersion(version, VersionDeleting, VersionDeleted)})
	})
	if err != nil {
		return fmt.Errorf("delete version %s of image %s: %w", version, imageID, err)
	}
	return nil
}

// DeletingVersions lists the versions of an image that are being deleted: what a restarted daemon
// has to finish.
func (s *Store) DeletingVersions(ctx context.Context, imageID string) ([]ImageVersion, error) {
	rows, err := s.reader.QueryContext(ctx, selectVersion+` WHERE image_id = ? AND state = ?`, imageID, VersionDeleting)
	versions, err := collectAll(rows, err, scanVersion)
	if err != nil {
		return nil, fmt.Errorf("list versions of image %s that are being deleted: %w", imageID, err)
	}
	return versions, nil
}
