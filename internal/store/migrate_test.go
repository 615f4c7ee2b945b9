package store

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestADatabaseOfTheFirstReleaseIsBroughtUpToDate(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "dormouse.db"), context.Background()
	old, err := sql.Open("sqlite", dsn(path))
	require.NoError(t, err)
	p, err := provider(old)
	require.NoError(t, err)
	_, err = p.UpTo(ctx, 1)
	require.NoError(t, err)
	_, err = old.Exec(`
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
