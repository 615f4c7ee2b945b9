package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestTheFlagsOfUpAreThoseOfTheDaemon(t *testing.T) {
	up := upCommand()
	up.Flags().String("data-dir", "", "")
	require.NoError(t, up.ParseFlags([]string{"--data-dir=/else", "--listen-api", "127.0.0.1:1", "--egress-allow", "10.0.0.0/8,10.1.0.0/16", "--offline", "--warm=0"}))
	require.Equal(t, []string{
		"serve", "--data-dir", "/data", "--egress-allow=10.0.0.0/8,10.1.0.0/16", "--listen-api=127.0.0.1:1", "--offline=true", "--warm=0",
	}, serveArguments(up, "/data"))
	t.Setenv("DORMOUSE_REGION", "eu-west-1")
	require.NoError(t, fromEnvironment(up.Flags()))
	require.Equal(t, "eu-west-1", up.Flags().Lookup("region").Value.String())
	require.Len(t, serveArguments(up, "/data"), 7, "what the daemon's environment says, it reads itself")
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
	require.Equal(t, "its log: "+b.logFile(), hint)
}

func TestUpIsContentWithADaemonThatWasFaster(t *testing.T) {
	b := &background{dir: t.TempDir(), exited: make(chan error, 1)}
	b.exited <- nil
	unlock, err := openDataDir(b.dir)
	require.NoError(t, err)
	defer unlock()
	serves(t, b.dir, "127.0.0.1:1")
	daemon, err := b.awaitReady(t.Context())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), daemon.PID)
}

// serves has the daemon of a folder, which is this process, tell where it is.
func serves(t *testing.T, dir, api string) *announcement {
	t.Helper()
	told := &announcement{dir: dir}
	require.NoError(t, told.serve(connection.Daemon{API: api, PID: os.Getpid(), Builder: connection.BuilderReady}))
	return told
}

func TestADaemonForgetsWhatTheOneBeforeTold(t *testing.T) {
	dir := t.TempDir()
	told := serves(t, dir, "127.0.0.1:1") // and was killed; in a container the next one may have its process id
	require.NoError(t, told.ended(nil))
	serves(t, dir, "127.0.0.1:1")
	unlock, err := openDataDir(dir)
	require.NoError(t, err)
	defer unlock()
	require.NoFileExists(t, filepath.Join(dir, connection.DaemonFile))
	require.NoFileExists(t, filepath.Join(dir, endingFile))
}

func TestUpWaitsForADaemonThatStops(t *testing.T) {
	var out bytes.Buffer
	b := &background{dir: t.TempDir(), screen: terminal.New(&out, &out)}
	unlock, err := openDataDir(b.dir)
	require.NoError(t, err)
	told := serves(t, b.dir, "127.0.0.1:1")
	pid, err := b.settled(t.Context(), b.screen.Progress())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), pid)
	require.Empty(t, out.String())

	require.NoError(t, told.stop())
	require.NoError(t, told.builder(connection.BuilderFailed), "it comes too late")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.settled(ctx, b.screen.Progress())
	require.ErrorContains(t, err, "goes on starting or stopping")
	require.Contains(t, out.String(), "Waiting for the daemon")

	time.AfterFunc(10*time.Millisecond, unlock)
	pid, err = b.settled(t.Context(), b.screen.Progress())
	require.NoError(t, err)
	require.Zero(t, pid)
}

func TestUpSaysWhichFlagsHaveNoEffect(t *testing.T) {
	var out bytes.Buffer
	b := &background{dir: t.TempDir(), screen: terminal.New(&out, &out)}
	unlock, err := openDataDir(b.dir)
	require.NoError(t, err)
	defer unlock()
	serves(t, b.dir, "127.0.0.1:1")
	require.NoError(t, b.up(t.Context(), []string{"serve", "--data-dir", b.dir}))
	require.NotContains(t, out.String(), "without effect")
	require.NoError(t, b.up(t.Context(), []string{"serve", "--data-dir", b.dir, "--warm=0", "--offline=true"}))
	require.Contains(t, out.String(), "the daemon runs already")
	require.Contains(t, out.String(), "without effect: --warm=0 --offline=true; dormouse down comes first")
}

func TestALockWhoseHolderHasNotWrittenItsNumberYetIsLookedAtAgain(t *testing.T) {
	for name, before := range map[string]string{"empty": "", "of the process before": "1\n"} {
		t.Run(name, func(t *testing.T) {
			b := &background{dir: t.TempDir()}
			lock, err := os.Create(filepath.Join(b.dir, lockFile))
			require.NoError(t, err)
			defer lock.Close()
			_, err = lock.WriteAt([]byte(before), 0)
			require.NoError(t, err)
			require.True(t, takeLock(lock))
			time.AfterFunc(10*time.Millisecond, func() { _ = writePID(lock) })
			pid, err := b.pid()
			require.NoError(t, err)
			require.Equal(t, os.Getpid(), pid)
		})
	}
}

func TestDownTellsHowTheDaemonEnded(t *testing.T) {
	for name, c := range map[string]struct {
		states map[string]int
		failed error
		said   string
		err    string
	}{
		"nothing ran":       {said: "the daemon has stopped (1 s)\n"},
		"all is asleep":     {states: map[string]int{store.VMSuspended: 2, store.VMTerminated: 3}, said: "the daemon has stopped (1 s)\n2 microVMs are asleep until the next dormouse up\n"},
		"told at its start": {failed: context.Canceled, said: "the daemon has stopped (1 s)\n"},
		"one goes on": {
			states: map[string]int{store.VMSuspended: 1, store.VMRunning: 1}, failed: errors.New("no space"),
			said: "1 microVM is asleep until the next dormouse up\n1 microVM is left running\n", err: "the daemon ended with an error: no space",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			b := &background{dir: t.TempDir(), screen: terminal.New(&out, &out)}
			told := serves(t, b.dir, "127.0.0.1:1")
			told.count(c.states)
			require.NoError(t, told.ended(c.failed))
			require.NoFileExists(t, filepath.Join(b.dir, connection.DaemonFile))
			err := b.conclude(1, time.Second)
			require.Equal(t, c.said, out.String())
			if c.err == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.err)
			_, _, status := explain(err)
			require.Equal(t, exitFailed, status)
		})
	}
	b := &background{dir: t.TempDir()}
	require.ErrorContains(t, b.conclude(1, time.Second), "did not tell how it ended")
}
