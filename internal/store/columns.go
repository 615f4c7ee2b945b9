package store

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"
)

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// nanos is a time column: nanoseconds since 1970 UTC, 0 for the zero time.
type nanos time.Time

func (n nanos) Value() (driver.Value, error) {
	t := time.Time(n)
	if t.IsZero() {
		return int64(0), nil
	}
	return t.UnixNano(), nil
}

func (n *nanos) Scan(src any) error {
	v, ok := src.(int64)
	if !ok {
		return fmt.Errorf("time column holds %T", src)
	}
	*n = nanos{}
	if v != 0 {
		*n = nanos(time.Unix(0, v).UTC())
	}
	return nil
}

// asJSON is a JSON column holding v; a nil map, slice or pointer is NULL.
type asJSON[T any] struct{ v *T }

func jsonOf[T any](v *T) asJSON[T] { return asJSON[T]{v} }

func (j asJSON[T]) Value() (driver.Value, error) {
	b, err := json.Marshal(j.v)
	if err != nil {
		return nil, err
	}
	if string(b) == "null" {
		return nil, nil
	}
	return string(b), nil
}

func (j asJSON[T]) Scan(src any) error {
	switch s := src.(type) {
	case nil:
		var zero T
		*j.v = zero
		return nil
	case string:
		return json.Unmarshal([]byte(s), j.v)
	default:
		return fmt.Errorf("JSON column holds %T", src)
	}
}

// Page is the part of a list to return: at most Limit rows after the row where the last page ended.
type Page struct {
	After int64 // the cursor that came with the last page; 0 is the beginning
	Limit int
}

// collect reads a page of rows; scan returns a row's place in the list. The query must have asked
// for one row more than the page holds: it tells whether a next page exists. The cursor returned
// is 0 at the end of the list.
func collect[T any](rows *sql.Rows, err error, limit int, scan func(scanner) (T, int64, error)) ([]T, int64, error) {
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	items := make([]T, 0, limit)
	var last int64
	for rows.Next() {
		if len(items) == limit {
			return items, last, nil
		}
		item, place, err := scan(rows)
		if err != nil {
			return nil, 0, err
		}
		items, last = append(items, item), place
	}
	return items, 0, rows.Err()
}

// before is the upper bound of the keyset for lists that go from the newest row to the oldest.
func (p Page) before() int64 {
	if p.After > 0 {
		return p.After
	}
	return 1<<63 - 1
}

// collectAll reads every row of a query that is small by its nature.
func collectAll[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []T
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, rows.Err()
}
