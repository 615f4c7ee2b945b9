package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// crashDB names the database to a child process that writes until it is killed.
const crashDB = "DORMOUSE_STORE_CRASH_DB"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashDB); path != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled inserts and moves microVMs from four goroutines, and prints the number of each
// one after its RUNNING was committed.
func writeUntilKilled(path string) error {
	ctx := context.Background()
	s, err := Open(ctx, path, Quotas{})
	if err != nil {
		return err
	}
	i, err := s.ImageByName(ctx, DefaultAccountID, "us-east-1", "app")
	if err != nil {
		return err
	}
	failed := make(chan error)
	for worker := range 4 {
		go func() {
			for n := worker; ; n += 4 {
				m := testVM(i, n)
				if err := s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID, To: m.State}); err != nil {
					failed <- err
				}
				m.State = VMRunning
				if err := s.TransitionMicroVM(ctx, m, VMPending, Event{Subject: m.ID, To: m.State}); err != nil {
					failed <- err
				}
				os.Stdout.WriteString(strconv.Itoa(n) + "\n")
			}
		}()
	}
	return <-failed
}

func TestEveryAcknowledgedRowSurvivesKillMinus9(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dormouse.db")
	s, err := Open(context.Background(), path, Quotas{})
	require.NoError(t, err)
	_, err = s.EnsureDefaults(context.Background(), testTime)
	require.NoError(t, err)
	addImage(t, s, "app")
	require.NoError(t, s.Close())

	acknowledged := killWriter(t, path, 200)

	s = openAt(t, path)
	var integrity string
	require.NoError(t, s.reader.QueryRow("PRAGMA integrity_check").Scan(&integrity))
	require.Equal(t, "ok", integrity)
	for _, n := range acknowledged {
		id := fmt.Sprintf("microvm-%d", n)
		m, err := s.MicroVM(context.Background(), id)
		require.NoError(t, err)
		require.Equal(t, VMRunning, m.State)
		events, _, err := s.Events(context.Background(), id, Page{Limit: 9})
		require.NoError(t, err)
		require.Len(t, events, 2)
	}
	live, err := s.LiveMicroVMs(context.Background())
	require.NoError(t, err)
	for _, m := range live {
		events, _, err := s.Events(context.Background(), m.ID, Page{Limit: 9})
		require.NoError(t, err)
		require.Equal(t, m.State, events[0].To, "a state is never without its event")
	}
}

// killWriter runs a child that writes, kills it with SIGKILL once it has acknowledged at least
// atLeast rows, and returns all it acknowledged.
func killWriter(t *testing.T, path string, atLeast int) []int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), crashDB+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	var acknowledged []int
	var kill sync.Once
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		require.NoError(t, err)
		acknowledged = append(acknowledged, n)
		if len(acknowledged) == atLeast {
			kill.Do(func() { require.NoError(t, child.Process.Kill()) })
		}
	}
	var exit *exec.ExitError
	require.True(t, errors.As(child.Wait(), &exit))
	require.GreaterOrEqual(t, len(acknowledged), atLeast)
	return acknowledged
}
