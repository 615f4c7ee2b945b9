package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrInUse means that microVMs of the image, of the version or with the network connector are
// alive, or that an image version has the connector; nothing was written.
var ErrInUse = errors.New("in use")

const selectImage = `SELECT seq, id, account_id, region, name, state, tags, created_at, updated_at,
	coalesce((SELECT version FROM image_versions v WHERE v.image_id = images.id
		AND v.state = 'SUCCESSFUL' AND v.status = 'ACTIVE' ORDER BY major DESC LIMIT 1), ''),
	coalesce((SELECT version FROM image_versions v WHERE v.image_id = images.id
		AND v.state = 'FAILED' ORDER BY major DESC LIMIT 1), '')
	FROM images`

func scanImage(row scanner) (i Image, seq int64, err error) {
	err = row.Scan(&seq, &i.ID, &i.AccountID, &i.Region, &i.Name, &i.State, jsonOf(&i.Tags),
		(*nanos)(&i.CreatedAt), (*nanos)(&i.UpdatedAt), &i.LatestActiveVersion, &i.LatestFailedVersion)
	return i, seq, err
}

// CreateImage adds an image with its first version and that version's build, and claims the
// client token if there is one: all or nothing. ErrTokenUsed: the token was claimed before.
// ErrExists: the account has an image of that name in that region. *QuotaError: it may have no more.
// *ConnectorError: its connector is gone.
func (s *Store) CreateImage(ctx context.Context, i Image, v ImageVersion, b Build, token *ClientToken, e Event) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := claimToken(ctx, tx, token); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO images (id, account_id, region, name, state, tags, last_major, created_at, updated_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			i.ID, i.AccountID, i.Region, i.Name, i.State, jsonOf(&i.Tags), v.Major, nanos(i.CreatedAt), nanos(i.UpdatedAt))
		if err != nil {
			return duplicate(err, ErrExists)
		}
		if err := s.addVersion(ctx, tx, v, b, e); err != nil {
			return err
		}
		return s.within(ctx, tx, i.AccountID, i.ID, QuotaImages, QuotaBuilds)
	})
	if err != nil {
		return fmt.Errorf("create image %s: %w", i.Name, err)
	}
	return nil
}

// Image returns an image by its id, or ErrNotFound.
func (s *Store) Image(ctx context.Context, id string) (Image, error) {
	i, _, err := scanImage(s.reader.QueryRowContext(ctx, selectImage+` WHERE id = ?`, id))
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w", id, missing(err))
	}
	return i, nil
}

// ImageByName returns an image by the variable parts of its ARN, or ErrNotFound.
func (s *Store) ImageByName(ctx context.Context, accountID, region, name string) (Image, error) {
	i, _, err := scanImage(s.reader.QueryRowContext(ctx, selectImage+` WHERE account_id = ? AND region = ? AND name = ?`, accountID, region, name))
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w", name, missing(err))
	}
	return i, nil
}

// ListImages lists the images of an account in a region, newest first, and the cursor of the next page.
func (s *Store) ListImages(ctx context.Context, accountID, region string, p Page) ([]Image, int64, error) {
	rows, err := s.reader.QueryContext(ctx, selectImage+` WHERE account_id = ? AND region = ? AND seq < ? ORDER BY seq DESC LIMIT ?`,
		accountID, region, p.before(), p.Limit+1)
	images, next, err := collect(rows, err, p.Limit, scanImage)
	if err != nil {
		return nil, 0, fmt.Errorf("list images: %w", err)
	}
	return images, next, nil
}

// UnfinishedImages lists the images that were being created, updated or deleted, over all
// accounts, oldest first: what a restarted daemon has to finish or to fail.
func (s *Store) UnfinishedImages(ctx context.Context) ([]Image, error) {
	rows, err := s.reader.QueryContext(ctx, selectImage+` WHERE state IN ('CREATING', 'UPDATING', 'DELETING') ORDER BY seq`)
	images, err := collectAll(rows, err, func(row scanner) (Image, error) {
		i, _, err := scanImage(row)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("list unfinished images: %w", err)
	}
	return images, nil
}

// ImageChange is one step in the life of an image. What is set is written in one transaction.
type ImageChange struct {
	ImageID string
	From    []string // states the image has to be in, else ErrConflict; empty is any
	To      string   // state of the image from now on; "" leaves it

	Version       string // which version the next two are about
	VersionState  string // "" leaves it
	VersionStatus string // "" leaves it

	Build  *Build // replaces the row of that id, but for CreatedAt
	Events []Event
	At     time.Time // the new UpdatedAt
}

// ChangeImage writes one step in the life of an image. ErrNotFound: the image, the version or
// the build is gone. ErrConflict: the image is in none of the states From.
func (s *Store) ChangeImage(ctx context.Context, c ImageChange) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := changeImageState(ctx, tx, c); err != nil {
			return err
		}
		if c.VersionState != "" || c.VersionStatus != "" {
			res, err := tx.ExecContext(ctx, `UPDATE image_versions SET state = coalesce(nullif(?, ''), state),
				status = coalesce(nullif(?, ''), status), updated_at = ? WHERE image_id = ? AND version = ?`,
				c.VersionState, c.VersionStatus, nanos(c.At), c.ImageID, c.Version)
			if err := mustChange(res, err, ErrNotFound); err != nil {
				return fmt.Errorf("version %s: %w", c.Version, err)
			}
		}
		if c.Build != nil {
			if err := updateBuild(ctx, tx, *c.Build); err != nil {
				return err
			}
		}
		return s.addEvents(ctx, tx, c.Events)
	})
	if err != nil {
		return fmt.Errorf("change image %s: %w", c.ImageID, err)
	}
	return nil
}

// changeImageState moves an image from one of c.From to c.To and marks it as updated.
func changeImageState(ctx context.Context, tx *sql.Tx, c ImageChange) error {
	res, err := tx.ExecContext(ctx, `UPDATE images SET state = coalesce(nullif(?2, ''), state), updated_at = ?3
		WHERE id = ?1 AND (?4 IS NULL OR state IN (SELECT value FROM json_each(?4)))`,
		c.ImageID, c.To, nanos(c.At), jsonOf(&c.From))
	err = mustChange(res, err, ErrConflict)
	if errors.Is(err, ErrConflict) {
		return missingElse(ctx, tx, err, `SELECT 1 FROM images WHERE id = ?`, c.ImageID)
	}
	return err
}

// missingElse tells a row that is gone (ErrNotFound) from one that only has moved on (err).
func missingElse(ctx context.Context, tx *sql.Tx, err error, query string, args ...any) error {
	var one int
	if scanErr := tx.QueryRowContext(ctx, query, args...).Scan(&one); scanErr != nil {
		return missing(scanErr)
	}
	return err
}

// BeginDeleteImage moves an image from one of the given states to DELETING, unless microVMs of it
// are alive (ErrInUse): from then on none can be added. e gets the states of the image. ErrConflict:
// it is in another state.
func (s *Store) BeginDeleteImage(ctx context.Context, id string, from []string, e Event) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, `SELECT state FROM images WHERE id = ?`, id).Scan(&e.From); err != nil {
			return missing(err)
		}
		e.To = ImageDeleting
		if err := changeImageState(ctx, tx, ImageChange{ImageID: id, From: from, To: ImageDeleting, At: e.At}); err != nil {
			return err
		}
		if err := unused(ctx, tx, id, ""); err != nil {
			return err
		}
		return s.addEvent(ctx, tx, e)
	})
	if err != nil {
		return fmt.Errorf("delete image %s: %w", id, err)
	}
	return nil
}

// unused returns ErrInUse if microVMs of an image, or of one version of it ("" is all), are alive.
func unused(ctx context.Context, tx *sql.Tx, imageID, version string) error {
	var live bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM microvms WHERE image_id = ?1 AND state <> 'TERMINATED'
		AND (?2 = '' OR image_version = ?2))`, imageID, version).Scan(&live)
	if err == nil && live {
		err = ErrInUse
	}
	return err
}

// DeleteImage removes an image with its versions, builds, events and client tokens, or returns ErrNotFound.
func (s *Store) DeleteImage(ctx context.Context, id string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM images WHERE id = ?`, id)
		if err := mustChange(res, err, ErrNotFound); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM events WHERE subject = ?`, id); err != nil {
			return err
		}
		return forgetTokens(ctx, tx, id)
	})
	if err != nil {
		return fmt.Errorf("delete image %s: %w", id, err)
	}
	return nil
}
