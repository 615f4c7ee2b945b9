package store

import (
	"context"
	"database/sql"
	"fmt"
)

const insertEventSQL = `INSERT INTO events (subject, operation, from_state, to_state, cause, request_id, detail, phases, at)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`

// addEvent writes an event in the transaction of the change it tells about.
func (s *Store) addEvent(ctx context.Context, tx *sql.Tx, e Event) error {
	_, err := tx.StmtContext(ctx, s.insertEvent).ExecContext(ctx,
		e.Subject, e.Operation, e.From, e.To, e.Cause, e.RequestID, e.Detail, jsonOf(&e.Phases), nanos(e.At))
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	return nil
}

func (s *Store) addEvents(ctx context.Context, tx *sql.Tx, events []Event) error {
	for _, e := range events {
		if err := s.addEvent(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// AddEvent records an event that goes with no change of state, for example the phases of a wake
// that are known only after its first byte.
func (s *Store) AddEvent(ctx context.Context, e Event) error {
	err := s.write(ctx, func(tx *sql.Tx) error { return s.addEvent(ctx, tx, e) })
	if err != nil {
		return fmt.Errorf("add event of %s: %w", e.Subject, err)
	}
	return nil
}

// Events lists the events of an image or a microVM, newest first, and the cursor of the next page.
// They go when their subject goes.
func (s *Store) Events(ctx context.Context, subject string, p Page) ([]Event, int64, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT id, subject, operation, from_state, to_state, cause, request_id, detail, phases, at
		FROM events WHERE subject = ? AND id < ? ORDER BY id DESC LIMIT ?`, subject, p.before(), p.Limit+1)
	events, next, err := collect(rows, err, p.Limit, func(row scanner) (e Event, place int64, err error) {
		err = row.Scan(&e.ID, &e.Subject, &e.Operation, &e.From, &e.To, &e.Cause, &e.RequestID, &e.Detail, jsonOf(&e.Phases), (*nanos)(&e.At))
		return e, e.ID, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list events of %s: %w", subject, err)
	}
	return events, next, nil
}
