package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
)

func TestTheFlagsOfUpAreThoseOfTheDaemon(t *testing.T) {
	up := upCommand()
	up.Flags().String("data-dir", "", "")
	require.NoError(t, up.ParseFlags([]string{"--data-dir=/else", "--listen-api", "127.0.0.1:1", "--egress-allow", "10.0.0.0/8,10.1.0.0/16", "--offline", "--warm=0"}))
	require.Equal(t, []string{
		"serve", "--data-dir", "/data", "--egress-allow=10.0.0.0/8,10.1.0.0/16", "--listen-api=127.0.0.1:1", "--offline=true", "--warm=0",
	}, serveArguments(up, "/data"))
	serve := serveCommand()
	serve.Flags().String("data-dir", "", "")
	require.NoError(t, serve.ParseFlags(serveArguments(up, "/data")[1:]))
}

func TestTheDaemonOfAFolderIsTheOneThatHoldsItsLock(t *testing.T) {
	b := &background{dir: filepath.Join(t.TempDir(), "data")}
	pid, err := b.pid()
	require.NoError(t, err)
	require.Zero(t, pid, "the folder is not there")

	unlock, err := openDataDir(b.dir)
	require.NoError(t, err)
	pid, err = b.pid()
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), pid)
	_, err = openDataDir(b.dir)
	require.ErrorContains(t, err, "another dormouse serves from "+b.dir)

	unlock()
	pid, err = b.pid()
	require.NoError(t, err)
	require.Zero(t, pid, "a stale process id is nobody's")

	// Somebody who looks at the lock does not keep a daemon from starting.
	looking, err := os.Open(filepath.Join(b.dir, lockFile))
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(looking.Fd()), unix.LOCK_SH))
	go looking.Close()
	unlock, err = openDataDir(b.dir)
	require.NoError(t, err)
	unlock()
}

func TestUpSaysWhyTheDaemonDoesNotStart(t *testing.T) {
	b := &background{dir: t.TempDir(), exited: make(chan error, 1)}
	b.exited <- nil
	require.NoError(t, os.WriteFile(b.logFile(), []byte("an earlier run\ntime=now level=INFO\ndormouse: assets are missing: run make setup\n"), 0o600))
	b.begin = int64(len("an earlier run\n"))
	_, err := b.awaitReady(t.Context())
	require.EqualError(t, err, "the daemon ended:\n    dormouse: assets are missing: run make setup")
	_, hint, status := explain(err)
	require.Equal(t, exitFailed, status)
	require.Contains(t, hint, "dormouse doctor")
}

func TestUpIsContentWithADaemonThatWasFaster(t *testing.T) {
	b := &background{dir: t.TempDir(), exited: make(chan error, 1)}
	b.exited <- nil
	unlock, err := openDataDir(b.dir)
	require.NoError(t, err)
	defer unlock()
	require.NoError(t, writeDaemon(b.dir, connection.Daemon{API: "127.0.0.1:1", PID: os.Getpid(), Builder: connection.BuilderReady}))
	daemon, err := b.awaitReady(t.Context())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), daemon.PID)
}
