package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// folder is a data folder that a daemon has served from.
type folder struct {
	t       *testing.T
	dir     string
	records *store.Store // as the daemon has it open
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	f := &folder{t: t, dir: t.TempDir()}
	var err error
	f.records, err = store.Open(t.Context(), filepath.Join(f.dir, databaseFile), store.Quotas{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.records.Close()) })
	key, err := f.records.EnsureDefaults(t.Context(), time.Now())
	require.NoError(t, err)
	require.NoError(t, writeAccessKey(f.dir, key))
	require.NoError(t, (&announcement{dir: f.dir}).serve(connection.Daemon{API: "127.0.0.1:1", Region: "us-east-1"}))
	return f
}

// run runs a command line on the folder.
func (f *folder) run(args ...string) (string, error) {
	f.t.Helper()
	cmd := rootCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs(append(args, "--data-dir", f.dir))
	err := cmd.ExecuteContext(f.t.Context())
	return out.String(), err
}

// read runs a command line with --output json.
func (f *folder) read(into any, args ...string) {
	f.t.Helper()
	out, err := f.run(append(args, "--output", "json")...)
	require.NoError(f.t, err)
	require.NoError(f.t, json.Unmarshal([]byte(out), into), out)
}

func TestAccountsAreCreatedAndListed(t *testing.T) {
	f := newFolder(t)
	var made shownAccount
	f.read(&made, "account", "create", "team-a")
	require.Regexp(t, `^[1-9][0-9]{11}$`, made.AccountID)
	out, err := f.run("account", "create", "team-b", "--id", "123456789012")
	require.NoError(t, err)
	require.Equal(t, "account 123456789012 (team-b) created\n", out)

	var accounts []shownAccount
	f.read(&accounts, "account", "list")
	require.Len(t, accounts, 3)
	require.Equal(t, []string{"default", "team-a", "team-b"}, []string{accounts[0].Name, accounts[1].Name, accounts[2].Name})
	for _, verb := range [][]string{{"env"}, {"credentials", "create"}, {"credentials", "list"}} {
		cmd := rootCommand()
		var found bytes.Buffer
		cmd.SetOut(&found)
		cmd.SetErr(io.Discard)
		cmd.SetArgs(append(append([]string{"__complete", "--data-dir", f.dir}, verb...), "--account", ""))
		require.NoError(t, cmd.ExecuteContext(t.Context()))
		require.Contains(t, found.String(), "team-b\t123456789012\n")
	}
	out, err = f.run("account", "list")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^ACCOUNT +NAME +CREATED\n000000000000 +default +20`, out)

	for _, args := range [][]string{
		{"team-a"}, {"other", "--id", "123456789012"}, {"a b"}, {"123456789013"}, {""}, {"x", "--id", "12"}, {strings.Repeat("x", 65)},
	} {
		_, err := f.run(append([]string{"account", "create"}, args...)...)
		require.Error(t, err, args)
	}
	_, err = f.run("account", "create", "team-a")
	require.EqualError(t, err, "there is an account called team-a already, "+made.AccountID)
	_, err = f.run("account", "create", "other", "--id", "123456789012")
	require.EqualError(t, err, "there is an account with the id 123456789012 already")
	_, err = f.run("account", "list", "--output", "xml")
	require.ErrorContains(t, err, `text or json, not "xml"`)
}

func TestASecretIsPrintedWhenItIsMadeAndNotListed(t *testing.T) {
	f := newFolder(t)
	_, err := f.run("account", "create", "team-a")
	require.NoError(t, err)
	var made shownCredential
	f.read(&made, "credentials", "create", "--account", "team-a")
	require.Len(t, made.SecretAccessKey, 40)
	got, err := f.records.Credential(t.Context(), made.AccessKeyID)
	require.NoError(t, err, "the daemon knows it at once")
	require.Equal(t, made.SecretAccessKey, got.Secret)

	for _, args := range [][]string{{"--output", "json"}, {"--account", "team-a"}, {"--account", made.AccountID}} {
		out, err := f.run(append([]string{"credentials", "list"}, args...)...)
		require.NoError(t, err)
		require.Contains(t, out, made.AccessKeyID)
		require.NotContains(t, out, made.SecretAccessKey)
	}
	var all []shownCredential
	f.read(&all, "credentials", "list")
	require.Len(t, all, 2)

	_, err = f.run("credentials", "delete", made.AccessKeyID)
	require.NoError(t, err)
	_, err = f.records.Credential(t.Context(), made.AccessKeyID)
	require.ErrorIs(t, err, store.ErrNotFound, "the daemon refuses it at once")
	_, err = f.run("credentials", "delete", made.AccessKeyID)
	require.ErrorContains(t, err, "there is no access key")
	_, err = f.run("credentials", "create", "--account", "nobody")
	require.ErrorContains(t, err, `there is no account "nobody"`)
	_, err = f.run("credentials", "create")
	require.ErrorContains(t, err, "account")
}

func TestASecretIsPrintedWhateverFailsAfterwards(t *testing.T) {
	f := newFolder(t)
	_, err := f.run("account", "create", "team-a")
	require.NoError(t, err)
	kept := filepath.Join(f.dir, connection.CredentialsFile)
	require.NoError(t, os.Remove(kept))
	require.NoError(t, os.MkdirAll(filepath.Join(kept, "in the way"), 0o700))
	for account, fails := range map[string]bool{"team-a": false, "default": true} {
		out, err := f.run("credentials", "create", "--account", account, "--output", "json")
		require.Equal(t, fails, err != nil, "%s: %v: the file is the default account's", account, err)
		var made shownCredential
		require.NoError(t, json.Unmarshal([]byte(out), &made))
		require.Len(t, made.SecretAccessKey, 40)
		got, err := f.records.Credential(t.Context(), made.AccessKeyID)
		require.NoError(t, err)
		require.Equal(t, made.SecretAccessKey, got.Secret)
	}
}

func TestEnvExportsTheKeyThatWasChosen(t *testing.T) {
	f := newFolder(t)
	_, err := f.run("account", "create", "team-a")
	require.NoError(t, err)
	_, err = f.run("env", "--account", "team-a")
	require.ErrorIs(t, err, errNoKey)
	var first, second shownCredential
	f.read(&first, "credentials", "create", "--account", "team-a")
	f.read(&second, "credentials", "create", "--account", "team-a")
	exported := func(args ...string) string {
		out, err := f.run(append([]string{"env"}, args...)...)
		require.NoError(t, err)
		require.Contains(t, out, "AWS_ENDPOINT_URL_LAMBDA_MICROVMS='http://127.0.0.1:1'")
		require.Contains(t, out, "AWS_ENDPOINT_URL_LAMBDA_CORE='http://127.0.0.1:1'")
		_, rest, _ := strings.Cut(out, "AWS_ACCESS_KEY_ID='")
		id, _, _ := strings.Cut(rest, "'")
		return id
	}
	byDefault := exported()
	require.Equal(t, byDefault, exported("--account", "default"))
	require.Equal(t, first.AccessKeyID, exported("--account", "team-a"))
	require.Equal(t, second.AccessKeyID, exported("--credentials", second.AccessKeyID))
	require.Equal(t, second.AccessKeyID, exported("--credentials", second.AccessKeyID, "--account", "team-a"))
	_, err = f.run("env", "--credentials", second.AccessKeyID, "--account", "default")
	require.ErrorContains(t, err, "does not belong to account 000000000000")
	_, err = f.run("env", "--credentials", "AKIANOBODY")
	require.ErrorContains(t, err, "there is no access key")

	var next shownCredential
	f.read(&next, "credentials", "create", "--account", "default")
	require.Equal(t, byDefault, exported(), "the oldest")
	_, err = f.run("credentials", "delete", byDefault)
	require.NoError(t, err)
	require.Equal(t, next.AccessKeyID, exported(), "a deleted key is not exported")
	_, err = f.run("credentials", "delete", next.AccessKeyID)
	require.NoError(t, err)
	_, err = f.run("env")
	require.Error(t, err)
}

func TestADatabaseOfAnotherReleaseIsLeftToTheDaemon(t *testing.T) {
	f := newFolder(t)
	for change, advice := range map[string]string{
		`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`: "use the dormouse that last served from this folder",
		`DELETE FROM goose_db_version WHERE version_id > 1`:                      "dormouse down, then dormouse up",
	} {
		db, err := sql.Open("sqlite", filepath.Join(f.dir, databaseFile))
		require.NoError(t, err)
		_, err = db.Exec(change)
		require.NoError(t, errors.Join(err, db.Close()))
		for _, args := range [][]string{{"account", "list"}, {"credentials", "list"}, {"env", "--account", "default"}} {
			_, err := f.run(args...)
			text, hint, status := explain(err)
			require.Contains(t, text, "release", args)
			require.Contains(t, hint, advice, args)
			require.Equal(t, exitFailed, status)
		}
	}
}
