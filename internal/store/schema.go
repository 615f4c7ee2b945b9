package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed migrations/*.sql
var migrations embed.FS

// SchemaError means that a database is not of this release; it was left as it is.
type SchemaError struct{ Have, Want int64 }

func (e *SchemaError) Error() string {
	age := "an older"
	if e.Have > e.Want {
		age = "a newer"
	}
	return fmt.Sprintf("the database is of %s release: its schema has version %d, this release's has %d", age, e.Have, e.Want)
}

// provider takes a database step by step to the present schema.
func provider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
}

func migrate(ctx context.Context, db *sql.DB) error {
	p, err := provider(db)
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return err
	case have > want:
		return &SchemaError{have, want}
	case have == want:
		return nil
	}
	_, err = p.Up(ctx)
	return err
}

// requireSchema returns a *SchemaError for a database that is not of this release. It writes
// nothing, where goose would make its table: a daemon may be migrating.
func requireSchema(ctx context.Context, db *sql.DB) error {
	p, err := provider(db)
	if err != nil {
		return err
	}
	sources := p.ListSources()
	want := sources[len(sources)-1].Version
	var have sql.NullInt64
	err = db.QueryRowContext(ctx, `SELECT max(version_id) FROM `+goose.DefaultTablename).Scan(&have)
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code() == sqlite3.SQLITE_ERROR { // there is no such table yet
		err = nil
	}
	if err == nil && have.Int64 != want {
		err = &SchemaError{have.Int64, want}
	}
	return err
}
