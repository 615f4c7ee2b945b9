package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// openRecords opens the database of a folder that a daemon has served from. Another folder is left
// as it is, and so is the schema: it is for the daemon to change, which holds the folder's lock.
func openRecords(ctx context.Context, dir string) (*store.Store, error) {
	path := filepath.Join(dir, databaseFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, &connection.NoDaemonError{Dir: dir}
	}
	records, err := store.OpenBeside(ctx, path)
	var other *store.SchemaError
	if errors.As(err, &other) && other.Have > other.Want {
		return nil, &failure{err, "use the dormouse that last served from this folder"}
	}
	if other != nil {
		return nil, &failure{err, "its next start brings it up to date: dormouse down, then dormouse up"}
	}
	return records, err
}

// withRecords runs a command on the database of its data folder.
func withRecords(run func(*cobra.Command, *store.Store, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		dir, err := dataDir(cmd)
		if err != nil {
			return err
		}
		records, err := openRecords(cmd.Context(), dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, records.Close()) }()
		return run(cmd, records, args)
	}
}
