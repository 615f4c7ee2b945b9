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

// addVersion inserts a version and its build; e is the event of its image that goes with it.
// *ConnectorError: its connector is gone.
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
	return s.addEvents(ctx, tx, []Event{e, e.OfVersion(v.Version, "", v.State)})
}

// OfVersion is the event of a version that goes with one of its image.
func (e Event) OfVersion(version, from, to string) Event {
	return Event{
		Subject: e.Subject, Operation: "version " + version, From: from, To: to,
		Cause: e.Cause, RequestID: e.RequestID, At: e.At,
	}
}

// AddVersion gives an image that is in one of the states from its next version and that
// version's build, moves the image to UPDATING and claims the client token if there is one: all
// or nothing. The number of the version (v.Major, v.Version, and the build's and the token's) is
// handed out here, because only the transaction knows it; the version comes back with it, and
// e gets it as its detail, and the states of the image.
// ErrTokenUsed, ErrNotFound, ErrConflict, *QuotaError and *ConnectorError as in CreateImage and ChangeImage.
func (s *Store) AddVersion(ctx context.Context, from []string, v ImageVersion, b Build, token *ClientToken, e Event) (ImageVersion, Build, error) {
	err := s.write(ctx, func(tx *sql.Tx) error {
		var accountID string
		err := tx.QueryRowContext(ctx, `UPDATE images SET last_major = last_major + 1 WHERE id = ? RETURNING last_major, account_id, state`, v.ImageID).
			Scan(&v.Major, &accountID, &e.From)
		if err != nil {
			return missing(err)
		}
		v.Version = fmt.Sprintf("%d.0", v.Major)
		b.Version = v.Version
		// Before the state is looked at: a request that is sent again is no conflict with itself.
		if token != nil {
			numbered := *token
			numbered.ResultVersion = v.Version
			if err := claimToken(ctx, tx, &numbered); err != nil {
				return err
			}
		}
		if err := changeImageState(ctx, tx, ImageChange{ImageID: v.ImageID, From: from, To: ImageUpdating, At: v.CreatedAt}); err != nil {
			return err
		}
		e.To, e.Detail = ImageUpdating, "version "+v.Version
		if err := s.addVersion(ctx, tx, v, b, e); err != nil {
			return err
		}
		return s.within(ctx, tx, accountID, v.ImageID, QuotaVersions, QuotaBuilds)
	})
	if err != nil {
		return ImageVersion{}, Build{}, fmt.Errorf("add version to image %s: %w", v.ImageID, err)
	}
	return v, b, nil
}

// SetVersionStatus lets a SUCCESSFUL version be run or not, and returns it as it is then. e is told,
// with the statuses, if that changes anything. ErrNotFound: there is no such version. ErrConflict:
// it is not SUCCESSFUL, or something goes on with its image.
func (s *Store) SetVersionStatus(ctx context.Context, imageID, version, status string, e Event) (v ImageVersion, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		v, err = scanVersion(tx.QueryRowContext(ctx, selectVersion+` WHERE image_id = ? AND version = ?`, imageID, version))
		if err != nil {
			return missing(err)
		}
		if v.State != VersionSuccessful {
			return ErrConflict
		}
		if err := changeImageState(ctx, tx, ImageChange{ImageID: imageID, From: SettledImageStates, At: e.At}); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE image_versions SET status = ?, updated_at = ? WHERE image_id = ? AND version = ?`,
			status, nanos(e.At), imageID, version)
		if err != nil {
			return err
		}
		before := v.Status
		if v.Status, v.UpdatedAt = status, e.At; before == status {
			return nil
		}
		return s.addEvent(ctx, tx, e.OfVersion(version, before, status))
	})
	if err != nil {
		return ImageVersion{}, fmt.Errorf("set status of image %s version %s: %w", imageID, version, err)
	}
	return v, nil
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
