package store

import (
	"context"
	"database/sql"
	"fmt"
)

const selectVersion = `SELECT image_id, version, major, state, status, config, created_at, updated_at FROM image_versions`

func scanVersion(row scanner) (v ImageVersion, err error) {
	err = row.Scan(&v.ImageID, &v.Version, &v.Major, &v.State, &v.Status, jsonOf(&v.Config), (*nanos)(&v.CreatedAt), (*nanos)(&v.UpdatedAt))
	return v, err
}

// addVersion inserts a version and its build. *ConnectorError: its connector is gone.
func (s *Store) addVersion(ctx context.Context, tx *sql.Tx, v ImageVersion, b Build, e Event) error {
	var account string
	if err := tx.QueryRowContext(ctx, `SELECT account_id FROM images WHERE id = ?`, v.ImageID).Scan(&account); err != nil {
		return missing(err)
	}
	if err := requireConnectors(ctx, tx, account, v.Config.EgressConnectors); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO image_versions (image_id, major, version, state, status, config, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		v.ImageID, v.Major, v.Version, v.State, v.Status, jsonOf(&v.Config), nanos(v.CreatedAt), nanos(v.UpdatedAt))
	if err != nil {
		return fmt.Errorf("version %s: %w", v.Version, duplicate(err, ErrExists))
	}
	if err := insertBuild(ctx, tx, b); err != nil {
		return err
	}
	return s.addEvent(ctx, tx, e)
}

// AddVersion gives an image that is in one of the states from its next version and that
// version's build, moves the image to UPDATING and claims the client token if there is one: all
// or nothing. The number of the version (v.Major, v.Version, and the build's and the token's) is
// handed out here, because only the transaction knows it; the version comes back with it.
// ErrTokenUsed, *ConnectorError, ErrNotFound and ErrConflict as in CreateImage and ChangeImage.
func (s *Store) AddVersion(ctx context.Context, from []string, v ImageVersion, b Build, token *ClientToken, e Event) (ImageVersion, Build, error) {
	err := s.write(ctx, func(tx *sql.Tx) error {
		change := ImageChange{ImageID: v.ImageID, From: from, To: ImageUpdating, At: v.CreatedAt}
		if err := changeImageState(ctx, tx, change); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, `UPDATE images SET last_major = last_major + 1 WHERE id = ? RETURNING last_major`, v.ImageID).Scan(&v.Major)
		if err != nil {
			return err
		}
		v.Version = fmt.Sprintf("%d.0", v.Major)
		b.Version = v.Version
		if token != nil {
			numbered := *token
			numbered.ResultVersion = v.Version
			if err := claimToken(ctx, tx, &numbered); err != nil {
				return err
			}
		}
		return s.addVersion(ctx, tx, v, b, e)
	})
	if err != nil {
		return ImageVersion{}, Build{}, fmt.Errorf("add version to image %s: %w", v.ImageID, err)
	}
	return v, b, nil
}

// Version returns a version of an image by its number ("1.0"), or ErrNotFound.
func (s *Store) Version(ctx context.Context, imageID, version string) (ImageVersion, error) {
	v, err := scanVersion(s.reader.QueryRowContext(ctx, selectVersion+` WHERE image_id = ? AND version = ?`, imageID, version))
	if err != nil {
		return ImageVersion{}, fmt.Errorf("image %s version %s: %w", imageID, version, missing(err))
	}
	return v, nil
}

// NewestRunnableVersion returns the newest version that is SUCCESSFUL and ACTIVE, or ErrNotFound.
func (s *Store) NewestRunnableVersion(ctx context.Context, imageID string) (ImageVersion, error) {
	v, err := scanVersion(s.reader.QueryRowContext(ctx, selectVersion+` WHERE image_id = ? AND state = 'SUCCESSFUL' AND status = 'ACTIVE'
		ORDER BY major DESC LIMIT 1`, imageID))
	if err != nil {
		return ImageVersion{}, fmt.Errorf("runnable version of image %s: %w", imageID, missing(err))
	}
	return v, nil
}

// ListVersions lists the versions of an image, newest first, and the cursor of the next page.
func (s *Store) ListVersions(ctx context.Context, imageID string, p Page) ([]ImageVersion, int64, error) {
	rows, err := s.reader.QueryContext(ctx, selectVersion+` WHERE image_id = ? AND major < ? ORDER BY major DESC LIMIT ?`,
		imageID, p.before(), p.Limit+1)
	versions, next, err := collect(rows, err, p.Limit, func(row scanner) (ImageVersion, int64, error) {
		v, err := scanVersion(row)
		return v, int64(v.Major), err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list versions of image %s: %w", imageID, err)
	}
	return versions, next, nil
}

// CountVersions counts the versions of an image, failed ones included.
func (s *Store) CountVersions(ctx context.Context, imageID string) (int, error) {
	return s.count(ctx, "versions", `SELECT count(*) FROM image_versions WHERE image_id = ?`, imageID)
}

// DeleteVersion removes a version and its builds, or returns ErrNotFound.
func (s *Store) DeleteVersion(ctx context.Context, imageID, version string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM image_versions WHERE image_id = ? AND version = ?`, imageID, version)
		return mustChange(res, err, ErrNotFound)
	})
	if err != nil {
		return fmt.Errorf("delete version %s of image %s: %w", version, imageID, err)
	}
	return nil
}
