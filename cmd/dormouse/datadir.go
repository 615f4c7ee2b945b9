package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Files of the data folder that the command line reads too.
const (
	databaseFile    = "dormouse.db"
	credentialsFile = "credentials.json" // mode 0600: the default account's access key
	daemonFile      = "daemon.json"      // where the daemon listens
	lockFile        = "lock"             // held by the daemon of this folder
	buildLogs       = "logs/builds"
	vmLogs          = "logs/microvms"
)

// defaultDataDir is where services keep their state: of the system for root, else of the user.
func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/dormouse"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "dormouse")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "dormouse-data"
	}
	return filepath.Join(home, ".local", "share", "dormouse")
}

// listenAddresses are the daemon's own addresses, as clients use them.
type listenAddresses struct {
	API      string `json:"api"`
	S3       string `json:"s3"` // "" where an external S3 is configured
	Endpoint string `json:"endpoint"`
	Region   string `json:"region"`
}

type accessKey struct {
	AccountID       string `json:"accountId"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// openDataDir makes the folder and locks it, so that no two daemons share one.
func openDataDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("another dormouse serves from %s: stop it, or choose another --data-dir", dir)
	}
	return func() { lock.Close() }, nil
}

// openRecords opens the database of a folder that a daemon has served from. Another folder is left
// as it is: opening a database that is not there would make one.
func openRecords(ctx context.Context, dir string) (*store.Store, error) {
	path := filepath.Join(dir, databaseFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, missing(path)
	}
	return store.Open(ctx, path)
}

func writeAccessKey(dir string, c store.Credential) error {
	return writeJSON(filepath.Join(dir, credentialsFile), accessKey{c.AccountID, c.AccessKeyID, c.Secret})
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := snapshot.WriteFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func readJSON(path string, value any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return missing(path)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func missing(path string) error {
	return fmt.Errorf("%s is missing: start the daemon with `dormouse serve --data-dir %s` first", path, filepath.Dir(path))
}
