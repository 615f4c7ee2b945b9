package store

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// firstRelease makes a database as the first release made it.
func firstRelease(t *testing.T) (path string, db *sql.DB) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "dormouse.db")
	require.NoError(t, createPrivate(path))
	db, err := sql.Open("sqlite", dsn(path, "journal_mode(WAL)"))
	require.NoError(t, err)
	p, err := provider(db)
	require.NoError(t, err)
	_, err = p.UpTo(t.Context(), 1)
	require.NoError(t, err)
	return path, db
}

func TestOnlyTheDaemonMigrates(t *testing.T) {
	path, old := firstRelease(t)
	require.NoError(t, old.Close())
	var wrong *SchemaError
	_, err := OpenBeside(t.Context(), path)
	require.ErrorAs(t, err, &wrong)
	require.ErrorContains(t, err, "the database is of an older release: its schema has version 1")

	var commands sync.WaitGroup
	start := make(chan struct{})
	for range 24 {
		commands.Go(func() {
			<-start
			s, err := OpenBeside(t.Context(), path)
			if err == nil {
				err = s.Close()
			}
			var wrong *SchemaError
			if err != nil && !errors.As(err, &wrong) {
				t.Error(err)
			}
		})
	}
	close(start)
	daemon := openAt(t, path)
	commands.Wait()
	s, err := OpenBeside(t.Context(), path)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.CreateAccount(t.Context(), Account{ID: "111111111111", Name: "team"}))
	_, err = daemon.Account(t.Context(), "team")
	require.NoError(t, err)

	_, err = daemon.writer.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
	require.NoError(t, err)
	_, err = OpenBeside(t.Context(), path)
	require.ErrorContains(t, err, "a newer release")
}

func TestACommandMakesNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dormouse.db")
	_, err := OpenBeside(t.Context(), path)
	require.Error(t, err)
	require.NoFileExists(t, path)
	require.NoError(t, createPrivate(path)) // as a daemon that starts for the first time has it for a moment
	var wrong *SchemaError
	_, err = OpenBeside(t.Context(), path)
	require.ErrorAs(t, err, &wrong)
	require.Zero(t, wrong.Have)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Zero(t, info.Size())
}

func TestADatabaseOfTheFirstReleaseIsBroughtUpToDate(t *testing.T) {
	path, old := firstRelease(t)
	ctx := t.Context()
	_, err := old.Exec(`
		INSERT INTO accounts VALUES ('000000000000', 'default', 1);
		INSERT INTO images VALUES (1, 'i', '000000000000', 'us-east-1', 'app', 'CREATED', NULL, 1, 1, 1);
		INSERT INTO image_versions VALUES ('i', 1, '1.0', 'SUCCESSFUL', 'ACTIVE', '{"MinimumMemoryMiB":1024}', 1, 1);
		INSERT INTO microvms VALUES (1, 'm', '000000000000', 'us-east-1', 'i', 'arn', '1.0', 'RUNNING', '', 'e', '', '{}', 1, 0, 0);
		INSERT INTO events VALUES (7, 'i', 'create', '', 'CREATED', 'api', '', '', NULL, 1), (8, 'm', 'launch', '', 'PENDING', 'api', 'r', '', '[]', 2),
			(9, 'nothing', 'launch', '', 'PENDING', 'api', '', '', NULL, 3);
		INSERT INTO microvms VALUES (2, 'gone', '000000000000', 'us-east-1', 'x', 'arn', '1.0', 'TERMINATED', '', 'f', '', '{}', 1, 0, 1);`)
	require.NoError(t, err)
	require.NoError(t, old.Close())

	s := openAt(t, path)
	for id, want := range map[string]int{"m": 1024, "gone": 0} {
		m, err := s.MicroVM(ctx, id)
		require.NoError(t, err)
		require.Equal(t, want, m.MemoryMiB)
	}
	events, _, err := s.AccountEvents(ctx, DefaultAccountID, "us-east-1", Page{Limit: 9})
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.Equal(t, []string{"m", "", "i", "app"}, []string{events[0].Subject, events[0].ImageName, events[1].Subject, events[1].ImageName})
	var kept int
	require.NoError(t, s.reader.QueryRow(`SELECT count(*) FROM events`).Scan(&kept))
	require.Equal(t, 3, kept, "also one that is nobody's")
}
