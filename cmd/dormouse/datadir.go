package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Files of the data folder; what clients read of it is named in package connection.
const (
	databaseFile = "dormouse.db"
	lockFile     = "lock"       // held by the daemon of this folder, whose process id it holds
	endingFile   = "ended.json" // how the last daemon ended
	vmLogs       = "logs/microvms"
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

// openDataDir makes the folder and locks it, so that no two daemons share one. What an earlier one told
// goes before anybody can take it for the word of this one, which in a container may have the same process id.
func openDataDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if !takeLock(lock) {
		lock.Close()
		return nil, fmt.Errorf("another dormouse serves from %s: end it with dormouse down, or choose another --data-dir", dir)
	}
	if err := errors.Join((&announcement{dir: dir}).forget(), writePID(lock)); err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	return func() { lock.Close() }, nil
}

// takeLock tries for a moment: `dormouse up` and `down` look at the lock by taking it for an instant.
func takeLock(lock *os.File) bool {
	const tries, between = 10, 20 * time.Millisecond
	for range tries {
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return true
		}
		time.Sleep(between)
	}
	return false
}

// writePID says who holds the lock, to `dormouse down` and people.
func writePID(lock *os.File) error {
	if err := lock.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(lock, "%d\n", os.Getpid())
	return err
}

func writeAccessKey(dir string, c store.Credential) error {
	return writeJSON(filepath.Join(dir, connection.CredentialsFile), connection.AccessKey{AccountID: c.AccountID, AccessKeyID: c.AccessKeyID, SecretAccessKey: c.Secret})
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
