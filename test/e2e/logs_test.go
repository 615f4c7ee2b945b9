package e2e

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	api "github.com/dormouse-dev/dormouse/internal/awsapi/client"
	"github.com/dormouse-dev/dormouse/internal/extension"
	"github.com/dormouse-dev/dormouse/internal/extension/client"
)

// extension is a client of what the daemon serves beyond the AWS API.
func (h *host) extension() *client.Client {
	return client.New(api.New(h.API(), region, h.env["AWS_ACCESS_KEY_ID"], h.env["AWS_SECRET_ACCESS_KEY"]))
}

// print has the workbench write a line.
func (v *microVM) print(line string) {
	v.t.Helper()
	v.ask(http.MethodPost, "/print", line)
}

// log is what the VM's app wrote to its standard output: not what it wrote before it was snapshotted.
func (v *microVM) log() (lines []string) {
	v.t.Helper()
	log, err := v.host.extension().Logs(v.t.Context(), extension.LogsInput{Source: v.id})
	require.NoError(v.t, err)
	defer log.Close()
	text, err := io.ReadAll(log)
	require.NoError(v.t, err)
	for line := range strings.Lines(string(text)) {
		if _, said, found := strings.Cut(strings.TrimSuffix(line, "\n"), " stdout "); found {
			lines = append(lines, said)
		}
	}
	return lines
}

// requireLog waits until the app's log has as many lines, and compares them: a reader gets what has come
// within a second, and a busy machine may take longer to hand over what its apps wrote.
func (v *microVM) requireLog(want []string, when string) {
	v.t.Helper()
	var got []string
	eventually(v.t, stateLimit, "lines in the log "+when, func() (bool, any) {
		got = v.log()
		return len(got) >= len(want), got
	})
	require.Equal(v.t, want, got, when)
}

func TestTheDaemonTellsMoreOfAMicroVMThanTheAPI(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	running, err := h.extension().MicroVM(t.Context(), v.id)
	require.NoError(t, err)
	require.Equal(t, v.vmm(), *running.VMMPid)
	require.Equal(t, 2048, *running.MemoryMiB)
	require.Positive(t, *running.DiskBytes)
	console, err := h.extension().Logs(t.Context(), extension.LogsInput{Source: v.id, Kind: extension.ConsoleLog})
	require.NoError(t, err)
	said, err := io.ReadAll(console)
	require.NoError(t, err)
	require.NoError(t, console.Close())
	require.NotContains(t, string(said), "Linux version", "it booted before it was snapshotted")

	v.suspend() // also after its console was read
	asleep, err := h.extension().MicroVM(t.Context(), v.id)
	require.NoError(t, err)
	require.Nil(t, asleep.VMMPid)
	require.Positive(t, *asleep.CheckpointBytes)

	events, err := h.extension().Events(t.Context(), extension.EventsInput{Subject: v.id})
	require.NoError(t, err)
	require.Equal(t, "SUSPENDED", events.Events[0].To)
	require.NotEmpty(t, events.Events[0].Phases)
	build, err := h.extension().Build(t.Context(), h.buildOf(t, image.arn).BuildID)
	require.NoError(t, err)
	require.Equal(t, image.arn, build.ImageARN)
	require.Positive(t, build.MemoryBytes)
	log, err := h.extension().Logs(t.Context(), extension.LogsInput{Source: build.BuildID, Follow: true})
	require.NoError(t, err)
	text, err := io.ReadAll(log)
	require.NoError(t, err)
	require.NoError(t, log.Close())
	require.Contains(t, string(text), "The image is ready")
	require.Equal(t, 1, strings.Count(string(text), "hook ready"), "a line is in the log once")
}

func TestEachLineOfAnAppIsInItsLogOnceWhateverHappensToItsMicroVM(t *testing.T) {
	t.Parallel()
	h := ownHost(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})

	v.print("one")
	v.print("two")
	v.suspend() // before anybody has fetched that
	v.print("three")
	want := []string{"hook run", "one", "two", "hook suspend", "hook resume", "three"}
	v.requireLog(want, "after a wake")

	v.print("four")
	h.crash(t)
	v.print("five")
	want = append(want, "four", "five")
	v.requireLog(want, "after kill -9 of the daemon")

	followed, err := h.extension().Logs(t.Context(), extension.LogsInput{Source: v.id, Follow: true, Tail: new(int)})
	require.NoError(t, err)
	defer followed.Close()
	v.print("six")
	lines := bufio.NewScanner(followed)
	require.True(t, lines.Scan())
	require.True(t, strings.HasSuffix(lines.Text(), " stdout six"), lines.Text())

	v.call("TerminateMicrovm")
	v.await("TERMINATED")
	want = append(want, "six", "hook terminate")
	v.requireLog(want, "after its end")
	require.True(t, lines.Scan())
	require.True(t, strings.HasSuffix(lines.Text(), " stdout hook terminate"), lines.Text())
	require.False(t, lines.Scan(), "the log has ended: %s", lines.Text())
	require.NoError(t, lines.Err())
}
