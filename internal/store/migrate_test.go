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
		INSERT INTO microvms VALUES (2, 'gone', '000000000000', 'us-east-1', 'x', 'arn', '1.0', 'TERMINATED', '', 'f', '', '{}', 1, 0, 1);`)
	require.NoError(t, err)
	require.NoError(t, old.Close())

	s := openAt(t, path)
	for id, want := range map[string]int{"m": 1024, "gone": 0} {
		m, err := s.MicroVM(ctx, id)
		require.NoError(t, err)
		require.Equal(t, want, m.MemoryMiB)
	}
}
