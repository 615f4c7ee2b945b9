package store

import (
	"context"
	"database/sql"
	"fmt"
)

const selectBuild = `SELECT seq, id, image_id, version, state, state_reason, reason_code, log_tail,
	code_bytes, memory_bytes, disk_bytes, phases, created_at, ended_at FROM builds`

func scanBuild(row scanner) (b Build, seq int64, err error) {
	err = row.Scan(&seq, &b.ID, &b.ImageID, &b.Version, &b.State, &b.StateReason, &b.ReasonCode, &b.LogTail,
		&b.CodeBytes, &b.MemoryBytes, &b.DiskBytes, jsonOf(&b.Phases), (*nanos)(&b.CreatedAt), (*nanos)(&b.EndedAt))
	return b, seq, err
}

func insertBuild(ctx context.Context, tx *sql.Tx, b Build) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO builds (id, image_id, version, state, state_reason, reason_code, log_tail,
		code_bytes, memory_bytes, disk_bytes, phases, created_at, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		b.ID, b.ImageID, b.Version, b.State, b.StateReason, b.ReasonCode, b.LogTail,
		b.CodeBytes, b.MemoryBytes, b.DiskBytes, jsonOf(&b.Phases), nanos(b.CreatedAt), nanos(b.EndedAt))
	if err != nil {
		return fmt.Errorf("build %s: %w", b.ID, duplicate(err, ErrExists))
	}
	return nil
}

func updateBuild(ctx context.Context, tx *sql.Tx, b Build) error {
	res, err := tx.ExecContext(ctx, `UPDATE builds SET state = ?, state_reason = ?, reason_code = ?, log_tail = ?,
		code_bytes = ?, memory_bytes = ?, disk_bytes = ?, phases = ?, ended_at = ? WHERE id = ?`,
		b.State, b.StateReason, b.ReasonCode, b.LogTail, b.CodeBytes, b.MemoryBytes, b.DiskBytes,
		jsonOf(&b.Phases), nanos(b.EndedAt), b.ID)
	if err := mustChange(res, err, ErrNotFound); err != nil {
		return fmt.Errorf("build %s: %w", b.ID, err)
	}
	return nil
}

// Build returns a build by its id, or ErrNotFound.
func (s *Store) Build(ctx context.Context, id string) (Build, error) {
	b, _, err := scanBuild(s.reader.QueryRowContext(ctx, selectBuild+` WHERE id = ?`, id))
	if err != nil {
		return Build{}, fmt.Errorf("build %s: %w", id, missing(err))
	}
	return b, nil
}

// ListBuilds lists the builds of a version, newest first, and the cursor of the next page.
func (s *Store) ListBuilds(ctx context.Context, imageID, version string, p Page) ([]Build, int64, error) {
	rows, err := s.reader.QueryContext(ctx, selectBuild+` WHERE image_id = ? AND version = ? AND seq < ? ORDER BY seq DESC LIMIT ?`,
		imageID, version, p.before(), p.Limit+1)
	builds, next, err := collect(rows, err, p.Limit, scanBuild)
	if err != nil {
		return nil, 0, fmt.Errorf("list builds of image %s version %s: %w", imageID, version, err)
	}
	return builds, next, nil
}

// UnfinishedBuilds lists the builds that have not ended, over all accounts, oldest first: what a
// restarted daemon has to fail.
func (s *Store) UnfinishedBuilds(ctx context.Context) ([]Build, error) {
	rows, err := s.reader.QueryContext(ctx, selectBuild+` WHERE ended_at = 0 ORDER BY seq`)
	builds, err := collectAll(rows, err, func(row scanner) (Build, error) {
		b, _, err := scanBuild(row)
		return b, err
	})
	if err != nil {
		return nil, fmt.Errorf("list unfinished builds: %w", err)
	}
	return builds, nil
}
