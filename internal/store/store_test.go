package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var testTime = time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC)

// openTest opens a database with the default account on a real file.
func openTest(t testing.TB) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "dormouse.db"))
}

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	return openLimited(t, path, Quotas{})
}

func openLimited(t testing.TB, path string, quotas Quotas) *Store {
	t.Helper()
	s, err := Open(context.Background(), path, quotas)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	_, err = s.EnsureDefaults(context.Background(), testTime)
	require.NoError(t, err)
	return s
}

func testImage(name string) (Image, ImageVersion, Build) {
	id := "image-" + name
	return Image{ID: id, AccountID: DefaultAccountID, Region: "us-east-1", Name: name, State: ImageCreating, CreatedAt: testTime, UpdatedAt: testTime},
		ImageVersion{ImageID: id, Version: "1.0", Major: 1, State: VersionPending, Status: StatusInactive, CreatedAt: testTime, UpdatedAt: testTime},
		Build{ID: "build-" + name, ImageID: id, Version: "1.0", State: BuildPending, CreatedAt: testTime}
}

// addImage stores an image whose version 1.0 is runnable.
func addImage(t testing.TB, s *Store, name string) Image {
	t.Helper()
	ctx := context.Background()
	i, v, b := testImage(name)
	i.State, v.State, v.Status = ImageCreated, VersionSuccessful, StatusActive
	b.State, b.EndedAt = BuildSuccessful, testTime
	require.NoError(t, s.CreateImage(ctx, i, v, b, nil, Event{Subject: i.ID, At: testTime}))
	i, err := s.Image(ctx, i.ID)
	require.NoError(t, err)
	return i
}

func testVM(i Image, n int) MicroVM {
	return MicroVM{
		ID: fmt.Sprintf("microvm-%d", n), AccountID: i.AccountID, Region: i.Region, ImageID: i.ID,
		ImageARN: "arn:" + i.Name, ImageVersion: "1.0", State: VMPending,
		EndpointID: fmt.Sprintf("endpoint-%d", n), EndpointAddr: fmt.Sprintf("127.64.%d.%d", n/250, n%250+1),
		IngressConnectors: []string{"in"}, EgressConnectors: []string{"out"},
		MaximumDuration: 8 * time.Hour, StartedAt: testTime,
	}
}

func TestOpenMakesAPrivateFileAndKeepsWhatIsInIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a folder with spaces & more%41.db")
	s, err := Open(context.Background(), path, Quotas{})
	require.NoError(t, err)
	first, err := s.EnsureDefaults(context.Background(), testTime)
	require.NoError(t, err)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		require.NoError(t, err, suffix)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), suffix)
	}
	require.NoError(t, s.Close())

	require.NoError(t, os.Chmod(path, 0o644))
	s = openAt(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "an open file is closed to others")
	again, err := s.EnsureDefaults(context.Background(), testTime.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, first, again, "the key of the first start stays")
}

func TestOpenRefusesADatabaseOfANewerRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dormouse.db")
	s, err := Open(context.Background(), path, Quotas{})
	require.NoError(t, err)
	_, err = s.writer.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = Open(context.Background(), path, Quotas{})
	require.ErrorContains(t, err, "newer release")
}

func TestOpenOfSomethingElseFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dormouse.db")
	require.NoError(t, os.WriteFile(path, make([]byte, 8192), 0o600))
	require.NoError(t, os.WriteFile(path, []byte("this is not a database, this is a letter to a friend, long enough to be read"), 0o600))
	_, err := Open(context.Background(), path, Quotas{})
	require.Error(t, err)
}

func TestCommitsAreDurable(t *testing.T) {
	s := openTest(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		require.NoError(t, s.writer.QueryRow("PRAGMA "+pragma).Scan(&got))
		require.Equal(t, want, got, pragma)
	}
	_, err := s.reader.Exec(`DELETE FROM accounts`)
	require.Error(t, err, "readers cannot write")
}

// planOf is how SQLite carries out a query.
func planOf(t *testing.T, s *Store, query string, args ...any) []string {
	t.Helper()
	rows, err := s.reader.Query(`EXPLAIN QUERY PLAN `+query, args...)
	plan, err := collectAll(rows, err, func(row scanner) (step string, err error) {
		var number int
		return step, row.Scan(&number, &number, &number, &step)
	})
	require.NoError(t, err)
	return plan
}
