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

// AccountEvents lists the events of all images and microVMs of an account in a region, newest first,
// and the cursor of the next page. It looks at the owner of each event on the way, so it is quick
// where the account's events are among the newest.
func (s *Store) AccountEvents(ctx context.Context, accountID, region string, p Page) ([]AccountEvent, int64, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT e.id, e.subject, e.operation, e.from_state, e.to_state, e.cause, e.request_id,
			e.detail, e.phases, e.at, coalesce(i.name, '')
		FROM events e LEFT JOIN microvms m ON m.id = e.subject LEFT JOIN images i ON i.id = e.subject
		WHERE e.id < ?1 AND (m.account_id = ?2 AND m.region = ?3 OR i.account_id = ?2 AND i.region = ?3)
		ORDER BY e.id DESC LIMIT ?4`, p.before(), accountID, region, p.Limit+1)
	events, next, err := collect(rows, err, p.Limit, func(row scanner) (e AccountEvent, place int64, err error) {
		err = row.Scan(append(e.columns(), &e.ImageName)...)
		return e, e.ID, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list events of account %s: %w", accountID, err)
	}
	return events, next, nil
}
