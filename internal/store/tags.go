package store

import (
	"context"
	"database/sql"
	"fmt"
)

// Taggable is a kind of row that has tags.
type Taggable string

// The kinds of rows that have tags.
const (
	TaggedImage     Taggable = "images"
	TaggedConnector Taggable = "network_connectors"
)

// EditTags replaces the tags of a row by what edit makes of them (nil: it was created without
// tags), with no other edit in between, or returns ErrNotFound. An error of edit changes nothing.
func (s *Store) EditTags(ctx context.Context, kind Taggable, id string, edit func(map[string]string) (map[string]string, error)) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		var tags map[string]string
		if err := tx.QueryRowContext(ctx, `SELECT tags FROM `+string(kind)+` WHERE id = ?`, id).Scan(jsonOf(&tags)); err != nil {
			return missing(err)
		}
		tags, err := edit(tags)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE `+string(kind)+` SET tags = ? WHERE id = ?`, jsonOf(&tags), id)
		return err
	})
	if err != nil {
		return fmt.Errorf("tag %s %s: %w", kind, id, err)
	}
	return nil
}
