package store

import (
	"context"
	"database/sql"
	"fmt"
)

// keptEvents is how many events an image or a microVM has at most: the newest.
const keptEvents = 1000

// insertEventSQL finds out whose the event is; one of something that is gone goes with it.
const insertEventSQL = `INSERT INTO events (account_id, region, subject, operation, from_state, to_state, cause, request_id, detail, phases, at)
	SELECT account_id, region, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM (
		SELECT account_id, region FROM microvms WHERE id = ?1 UNION ALL SELECT account_id, region FROM images WHERE id = ?1)`

const dropEventsSQL = `DELETE FROM events WHERE subject = ?1
	AND id <= (SELECT id FROM events WHERE subject = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`

// addEvent writes an event in the transaction of the change it tells about.
func (s *Store) addEvent(ctx context.Context, tx *sql.Tx, e Event) error {
	_, err := tx.StmtContext(ctx, s.insertEvent).ExecContext(ctx,
		e.Subject, e.Operation, e.From, e.To, e.Cause, e.RequestID, e.Detail, jsonOf(&e.Phases), nanos(e.At))
	if err == nil {
		_, err = tx.StmtContext(ctx, s.dropEvents).ExecContext(ctx, e.Subject, keptEvents)
	}
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
// The newest keptEvents are there; they go when their subject goes.
func (s *Store) Events(ctx context.Context, subject string, p Page) ([]Event, int64, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT id, subject, operation, from_state, to_state, cause, request_id, detail, phases, at
		FROM events WHERE subject = ? AND id < ? ORDER BY id DESC LIMIT ?`, subject, p.before(), p.Limit+1)
	events, next, err := collect(rows, err, p.Limit, func(row scanner) (e Event, place int64, err error) {
		err = row.Scan(e.columns()...)
		return e, e.ID, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list events of %s: %w", subject, err)
	}
	return events, next, nil
}

// columns is where the columns of an event go, in the order of the queries here.
func (e *Event) columns() []any {
	return []any{&e.ID, &e.Subject, &e.Operation, &e.From, &e.To, &e.Cause, &e.RequestID, &e.Detail, jsonOf(&e.Phases), (*nanos)(&e.At)}
}

// AccountEvent is an event with the name of its image, "" for one of a microVM.
type AccountEvent struct {
	Event
	ImageName string
}

const accountEventsSQL = `SELECT e.id, e.subject, e.operation, e.from_state, e.to_state, e.cause, e.request_id,
		e.detail, e.phases, e.at, coalesce(i.name, '')
	FROM events e LEFT JOIN images i ON i.id = e.subject
	WHERE e.account_id = ?1 AND e.region = ?2 AND e.id < ?3 ORDER BY e.id DESC LIMIT ?4`

// AccountEvents lists the events of all images and microVMs of an account in a region, newest first,
// and the cursor of the next page.
func (s *Store) AccountEvents(ctx context.Context, accountID, region string, p Page) ([]AccountEvent, int64, error) {
	rows, err := s.reader.QueryContext(ctx, accountEventsSQL, accountID, region, p.before(), p.Limit+1)
	events, next, err := collect(rows, err, p.Limit, func(row scanner) (e AccountEvent, place int64, err error) {
		err = row.Scan(append(e.columns(), &e.ImageName)...)
		return e, e.ID, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list events of account %s: %w", accountID, err)
	}
	return events, next, nil
}
