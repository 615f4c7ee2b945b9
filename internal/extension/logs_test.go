package extension_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// text is a log that is not followed, without times.
func (r *rig) text(in extension.LogsInput) string {
	r.t.Helper()
	log, err := r.as(mine).Logs(r.t.Context(), in)
	require.NoError(r.t, err)
	defer log.Close()
	text, err := io.ReadAll(log)
	require.NoError(r.t, err)
	return strings.ReplaceAll(string(text), "2026-11-25T12:00:00.250000Z ", "")
}

// app is what the app of the microVM writes, and where it has come to.
type app struct {
	r        *rig
	log      *logfile.App
	position int64
}

func (r *rig) app() *app { return &app{r: r, log: r.logs.App(vmID)} }

func (a *app) writes(text string) {
	require.NoError(a.r.t, a.log.Append(a.position, "stdout", noon, []byte(text)))
	a.position += int64(len(text))
}

func last(n int) *int { return &n }

func TestALogAndItsEnd(t *testing.T) {
	r := newRig(t)
	require.Empty(t, r.text(extension.LogsInput{Source: vmID}), "nothing was written yet")
	require.Equal(t, 1, r.vms.caughtUp)
	a := r.app()
	a.writes("one\ntwo\nthree\nfo")
	r.writesBuildLog("a\nb\nc\n")
	require.NoError(t, r.logs.Append(vmID, logfile.VMMName, []byte("x\ny\nz")))
	r.vms.onLook = func() { require.NoError(t, r.logs.Append(vmID, logfile.ConsoleName, []byte("booted\n"))) }
	for _, c := range []struct {
		in   extension.LogsInput
		want string
	}{
		{extension.LogsInput{Source: vmID}, "stdout one\nstdout two\nstdout three\nstdout fo\n"},
		{extension.LogsInput{Source: vmID, Kind: extension.AppLog, Tail: last(2)}, "stdout three\nstdout fo\n"},
		{extension.LogsInput{Source: vmID, Tail: last(1)}, "stdout fo\n"},
		{extension.LogsInput{Source: vmID, Tail: last(0)}, ""},
		{extension.LogsInput{Source: vmID, Kind: extension.AppLog, Tail: last(4)}, "stdout one\nstdout two\nstdout three\nstdout fo\n"},
		{extension.LogsInput{Source: vmID, Tail: last(100)}, "stdout one\nstdout two\nstdout three\nstdout fo\n"},
		{extension.LogsInput{Source: vmID, Kind: extension.VMMLog, Tail: last(1)}, "z"},
		{extension.LogsInput{Source: vmID, Kind: extension.VMMLog, Tail: last(2)}, "y\nz"},
		{extension.LogsInput{Source: vmID, Kind: extension.ConsoleLog, Tail: last(1)}, "booted\n"},
		{extension.LogsInput{Source: buildID}, "a\nb\nc\n"},
		{extension.LogsInput{Source: buildID, Kind: extension.BuildLog, Tail: last(0)}, ""},
		{extension.LogsInput{Source: buildID, Tail: last(2)}, "b\nc\n"},
	} {
		require.Equal(t, c.want, r.text(c.in), "%+v", c.in)
	}
	require.Zero(t, r.vms.listening())
}

// follower reads a log that is followed.
type follower struct {
	t     *testing.T
	lines *bufio.Scanner
	close func() error
}

func (r *rig) follow(ctx context.Context, in extension.LogsInput) *follower {
	r.t.Helper()
	in.Follow = true
	log, err := r.as(mine).Logs(ctx, in)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { log.Close() })
	return &follower{r.t, bufio.NewScanner(log), log.Close}
}

func (f *follower) reads(want ...string) {
	f.t.Helper()
	for _, line := range want {
		require.True(f.t, f.lines.Scan(), "%s: %v", line, f.lines.Err())
		require.Equal(f.t, line, strings.TrimPrefix(f.lines.Text(), "2026-11-25T12:00:00.250000Z "))
	}
}

func (f *follower) ends() {
	f.t.Helper()
	require.False(f.t, f.lines.Scan(), f.lines.Text())
	require.NoError(f.t, f.lines.Err())
}

// polls lets the daemon look at its logs again.
func (r *rig) polls() {
	r.rests()
	r.clock.Advance(time.Second)
}

// rests waits until the daemon has looked. What ends a log comes after that: the daemon might see it at
// once, and never poll again.
func (r *rig) rests() { require.NoError(r.t, r.clock.BlockUntilContext(r.t.Context(), 1)) }

func TestALogIsFollowedUntilItsMicroVMIsTerminated(t *testing.T) {
	r := newRig(t)
	a := r.app()
	a.writes("one\ntwo\n")
	f := r.follow(t.Context(), extension.LogsInput{Source: vmID, Tail: last(1)})
	f.reads("stdout two")
	require.Equal(t, 1, r.vms.listening())
	require.Zero(t, r.vms.caughtUp, "it does not wait")
	a.writes("three\n")
	r.polls()
	f.reads("stdout three")
	r.polls()
	r.rests()
	a.writes("last words")
	r.moves(vmID, store.VMTerminating)
	r.moves(vmID, store.VMTerminated)
	r.polls()
	f.reads("stdout last words")
	f.ends()
	require.Eventually(t, func() bool { return r.vms.listening() == 0 }, 10*time.Second, time.Millisecond)
}

func TestABuildIsFollowedFromBeforeItsFirstLineToItsEnd(t *testing.T) {
	r := newRig(t)
	f := r.follow(t.Context(), extension.LogsInput{Source: buildID})
	r.polls()
	r.writesBuildLog("one\n")
	r.polls()
	f.reads("one")
	r.rests()
	r.writesBuildLog("failed\n")
	r.endBuild()
	r.polls()
	f.reads("failed")
	f.ends()
}

func TestAConsoleIsAskedForWhileItIsFollowed(t *testing.T) {
	r := newRig(t)
	looks := 0
	r.vms.onLook = func() {
		looks++
		require.NoError(t, r.logs.Append(vmID, logfile.ConsoleName, fmt.Appendf(nil, "look %d\n", looks)))
	}
	f := r.follow(t.Context(), extension.LogsInput{Source: vmID, Kind: extension.ConsoleLog})
	f.reads("look 1")
	r.polls()
	f.reads("look 2")
	close(r.stopping)
	f.ends()
}

func TestALogEndsForAReaderThatLeaves(t *testing.T) {
	r := newRig(t)
	ctx, leave := context.WithCancel(t.Context())
	r.follow(ctx, extension.LogsInput{Source: vmID})
	require.Equal(t, 1, r.vms.listening())
	leave()
	require.Eventually(t, func() bool { return r.vms.listening() == 0 }, 10*time.Second, time.Millisecond)
}

func TestAnAccountHasABoundedNumberOfLogRequests(t *testing.T) {
	r := newRig(t)
	ctx, leave := context.WithCancel(t.Context())
	for range 32 {
		r.follow(ctx, extension.LogsInput{Source: vmID})
	}
	_, err := r.as(mine).Logs(t.Context(), extension.LogsInput{Source: vmID})
	refused(t, err, awsapi.ThrottlingException)
	log, err := r.as(theirs).Logs(t.Context(), extension.LogsInput{Source: "microvm-2"})
	require.NoError(t, err)
	log.Close()
	leave()
	require.Eventually(t, func() bool {
		log, err := r.as(mine).Logs(t.Context(), extension.LogsInput{Source: vmID})
		if err == nil {
			log.Close()
		}
		return err == nil
	}, 10*time.Second, time.Millisecond)
}

func TestALogThatIsNotKeptIsSaidToBeSo(t *testing.T) {
	r := newRig(t)
	vm, err := r.store.MicroVM(t.Context(), vmID)
	require.NoError(t, err)
	vm.ID, vm.EndpointID, vm.WireLogging = "microvm-silent", "silent", []byte(`{"disabled":{}}`)
	require.NoError(t, r.store.InsertMicroVM(t.Context(), vm, nil, store.Event{Subject: vm.ID}))
	for _, kind := range []extension.Kind{"", extension.AppLog, extension.ConsoleLog} {
		_, err := r.as(mine).Logs(t.Context(), extension.LogsInput{Source: vm.ID, Kind: kind})
		require.ErrorContains(t, err, "Logging is disabled for MicroVM microvm-silent")
	}
	require.Empty(t, r.text(extension.LogsInput{Source: vm.ID, Kind: extension.VMMLog}))
}
