package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrNotFound means that there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrExists means that a row with that name, id or address exists already.
	ErrExists = errors.New("exists already")
	// ErrConflict means that the row is no longer in the state the caller thought it was in; nothing was written.
	ErrConflict = errors.New("state has changed")
	// ErrTokenUsed means that a client token was claimed before; nothing was written.
	ErrTokenUsed = errors.New("client token used before")
)

const (
	// busyTimeout bounds the wait for another process that holds the database (a backup, a CLI).
	busyTimeout = 10 * time.Second
	// readers is small on purpose: reads are index look-ups of well under a millisecond.
	readers = 4
)

// Store is the database. Its methods are safe for concurrent use.
//
// One connection writes and a few read. Every write is one transaction and, with WAL and
// synchronous=FULL, one fsync: when a method returns nil, its rows survive a power cut.
// Secrets (access keys, token keys, run hook payloads) are in clear, because checking a
// SigV4 signature needs the secret itself; the file and its -wal and -shm are mode 0600.
type Store struct {
	writer *sql.DB
	reader *sql.DB

	transitionVM, insertEvent, dropEvents *sql.Stmt // on writer: on the suspend and wake path
	selectVM, selectKey                   *sql.Stmt // on reader

	quotas Quotas
}

// Open opens the database file, makes it when it is missing, and brings its schema up to date. The
// folder must exist, and its lock must be held: two that migrate at once get in each other's way.
func Open(ctx context.Context, path string, quotas Quotas) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("create database: %w", err)
	}
	s := &Store{quotas: quotas}
	err = s.open(ctx, path, func() error {
		if err := migrate(ctx, s.writer); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), s.Close())
	}
	return s, nil
}

// OpenBeside opens the database of a folder that a daemon serves from, or has. It has no quotas. A
// *SchemaError says that the database is not of this release.
func OpenBeside(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s := &Store{}
	if err := s.open(ctx, path, func() error { return requireSchema(ctx, s.reader) }); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), s.Close())
	}
	return s, nil
}

// open connects to the database. Its schema is checked or made by ready.
func (s *Store) open(ctx context.Context, path string, ready func() error) error {
	var err error
	if s.writer, err = sql.Open("sqlite", dsn(path, "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)")); err != nil {
		return err
	}
	s.writer.SetMaxOpenConns(1)
	if s.reader, err = sql.Open("sqlite", dsn(path, "query_only(1)")); err != nil {
		return err
	}
	s.reader.SetMaxOpenConns(readers)
	s.reader.SetMaxIdleConns(readers)
	if err := ready(); err != nil {
		return err
	}
	return s.prepare(ctx)
}

func (s *Store) prepare(ctx context.Context) error {
	for _, p := range []struct {
		db   *sql.DB
		stmt **sql.Stmt
		text string
	}{
		{s.writer, &s.transitionVM, transitionVMSQL},
		{s.writer, &s.insertEvent, insertEventSQL},
		{s.writer, &s.dropEvents, dropEventsSQL},
		{s.reader, &s.selectVM, selectVM + " WHERE id = ?"},
		{s.reader, &s.selectKey, selectCredential + " WHERE access_key_id = ?"},
	} {
		stmt, err := p.db.PrepareContext(ctx, p.text)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", p.text, err)
		}
		*p.stmt = stmt
	}
	return nil
}

// Close waits for the queries under way and closes the database.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.reader, s.writer} { // the writer last: it folds the WAL back
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// createPrivate makes an empty file only its owner can read, durably, or takes rights away from
// an existing one. SQLite gives its -wal and -shm files the mode of the database file.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(f.Chmod(0o600), f.Close())
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// dsn is the SQLite URI of a file that is there, by its absolute path; the pragmas are set on every
// new connection.
func dsn(path string, pragmas ...string) string {
	q := url.Values{"mode": {"rw"}, "_txlock": {"immediate"}}
	q.Add("_pragma", "busy_timeout("+strconv.FormatInt(busyTimeout.Milliseconds(), 10)+")")
	for _, p := range pragmas {
		q.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}).String()
}

// write runs f in one transaction; whatever f returns, either all of it is durable or nothing is.
func (s *Store) write(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := f(tx); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// ignoreDone drops the error of a roll-back that a cancelled context did already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// mustChange turns an update that touched no row into otherwise.
func mustChange(res sql.Result, err, otherwise error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return otherwise
	}
	return nil
}

// duplicate turns a violated PRIMARY KEY or UNIQUE constraint into otherwise.
func duplicate(err, otherwise error) error {
	var e *sqlite.Error
	if errors.As(err, &e) && (e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) {
		return otherwise
	}
	return err
}

// missing turns an empty result into ErrNotFound.
func missing(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
