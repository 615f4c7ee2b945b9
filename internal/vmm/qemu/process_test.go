package qemu

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// TestMain lets the test binary stand in for QEMU: a driver starts it with QEMU's command line.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-M" {
		standIn()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// standIn agrees to every QMP command until it is killed. Where a file "mute" is in its run folder
// it never says anything.
func standIn() {
	if _, err := os.Stat("mute"); err == nil {
		_ = unix.Pause()
	}
	listener, err := listenQMP(".")
	for err == nil {
		conn, accepting := listener.AcceptUnix()
		if accepting != nil {
			return
		}
		go newQMP(conn).serve()
	}
}

func standInDriver() *Driver { return &Driver{binary: os.Args[0], accelerator: TCG} }

// prepared starts a stand-in and returns its run folder.
func prepared(t *testing.T) (vmm.Machine, string) {
	t.Helper()
	dir := t.TempDir()
	machine, err := standInDriver().Prepare(t.Context(), vmm.Config{Dir: dir, Memory: "/memory", MemoryMiB: 64})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, machine.Kill()) })
	return machine, dir
}

func TestALaterDaemonTakesOverARunningVMM(t *testing.T) {
	first, dir := prepared(t)
	first.(*machine).monitor.conn.Close() // as when the daemon ends

	second, err := standInDriver().Adopt(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, first.PID(), second.PID())
	require.Equal(t, "/memory", second.(*machine).memory)
	require.NoError(t, second.Resume(t.Context()))
	select {
	case <-second.Done():
		t.Fatal("it runs")
	default:
	}

	require.NoError(t, second.Kill())
	<-second.Done()
	<-first.Done()
	_, err = standInDriver().Adopt(t.Context(), dir)
	require.ErrorIs(t, err, vmm.ErrExited)
}

func TestKillMayComeTwiceAndAtOnce(t *testing.T) {
	machine, _ := prepared(t)
	done := make(chan error, 4)
	for range cap(done) {
		go func() { done <- machine.Kill() }()
	}
	for range cap(done) {
		require.NoError(t, <-done)
	}
	require.NoError(t, machine.Kill(), "long after the end, when its number may be another process's")
}

func TestAnotherProcessThatGotTheNumberIsLeftAlone(t *testing.T) {
	machine, dir := prepared(t)
	text, err := json.Marshal(identity{PID: machine.PID(), StartTime: 1})
	require.NoError(t, err)
	elsewhere := t.TempDir() // not its working folder: nothing but the number connects them
	require.NoError(t, os.WriteFile(filepath.Join(elsewhere, identityFile), text, 0o600))
	_, err = standInDriver().Adopt(t.Context(), elsewhere)
	require.ErrorIs(t, err, vmm.ErrExited)
	_, err = standInDriver().Adopt(t.Context(), dir)
	require.NoError(t, err, "it still runs")
}

func TestAVMMThatCannotBeTakenOverIsEnded(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mute"), nil, 0o600))
	p, err := spawn(os.Args[0], []string{"-M"}, dir)
	require.NoError(t, err)
	require.NoError(t, writeIdentity(vmm.Config{Dir: dir}, p.pid))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = standInDriver().Adopt(ctx, dir)
	require.ErrorIs(t, err, context.Canceled)
	<-p.done
}

func TestAVMMWhoseDaemonDiedBeforeItNotedItIsEnded(t *testing.T) {
	for name, write := range map[string]func(dir string) error{
		"without an identity file": func(string) error { return nil },
		"with half of one":         func(dir string) error { return os.WriteFile(filepath.Join(dir, identityFile), []byte("{"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "mute"), nil, 0o600))
			require.NoError(t, write(dir))
			p, err := spawn(os.Args[0], []string{"-M"}, dir)
			require.NoError(t, err)
			_, err = standInDriver().Adopt(t.Context(), dir)
			require.Error(t, err)
			<-p.done
		})
	}
}

func TestAQEMUThatEndsAtOnceIsReportedWithWhatItPrinted(t *testing.T) {
	dir, script := t.TempDir(), filepath.Join(t.TempDir(), "qemu")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho 'qemu: no such machine' >&2\nexit 1\n"), 0o700))
	_, err := (&Driver{binary: script}).Prepare(t.Context(), vmm.Config{Dir: dir})
	require.ErrorContains(t, err, "start QEMU")
}

func TestAQEMUThatNeverListensIsEndedWithItsContext(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mute"), nil, 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := standInDriver().Prepare(ctx, vmm.Config{Dir: dir})
	require.ErrorIs(t, err, context.Canceled)
	_, _, err = findProcess(dir)
	require.ErrorIs(t, err, vmm.ErrExited)
}

func TestStartTimesTellProcessesApart(t *testing.T) {
	own, err := startTime(os.Getpid())
	require.NoError(t, err)
	require.NotZero(t, own)
	machine, _ := prepared(t)
	other, err := startTime(machine.PID())
	require.NoError(t, err)
	require.GreaterOrEqual(t, other, own)
	require.NoError(t, machine.Kill())
	_, err = startTime(machine.PID())
	require.Error(t, err)
}

func TestAVMMIsNoChildOfTheTerminal(t *testing.T) {
	machine, _ := prepared(t)
	session, err := unix.Getsid(machine.PID())
	require.NoError(t, err)
	require.Equal(t, machine.PID(), session, "a Ctrl-C for the daemon does not reach it")
}
