package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

var update = flag.Bool("update", false, "write the files that tests compare with")

// golden compares text with a file below testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	goldenFile(t, filepath.Join("testdata", name), text)
}

func goldenFile(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), text, "%s; go test -update writes it", file)
}

var (
	fixedNow = time.Date(2026, 11, 25, 19, 30, 0, 0, time.UTC)
	evil     = "evil \x1b[2J\u202etext\nwith lines"
)

// before is a time before fixedNow on the wire.
func before(d time.Duration) awsapi.Timestamp { return awsapi.At(fixedNow.Add(-d)) }

// screenInto writes to a buffer, as to a pipe.
func screenInto(out io.Writer) *terminal.Screen { return terminal.New(out, out) }

func TestOutputForPeople(t *testing.T) {
	var out bytes.Buffer
	screen := screenInto(&out)
	section := func(name string) { screen.Printf("== %s\n", name) }

	vms := []awsapi.GetMicrovmOutput{
		{MicrovmId: firstVM, State: "RUNNING", ImageArn: fakeImageARN("counter"), ImageVersion: "1.0", Endpoint: "127.64.0.1:7443", StartedAt: before(90 * time.Second)},
		{MicrovmId: secondVM, State: "TERMINATED", ImageArn: fakeImageARN("a-longer-name"), ImageVersion: "12.0", StartedAt: before(50 * time.Hour), StateReason: &evil},
	}
	section("ps")
	printMicroVMs(screen, vms[:1], false, false, fixedNow)
	section("ps -a --no-trunc")
	printMicroVMs(screen, vms, true, true, fixedNow)

	section("images")
	printImages(screen, []awsapi.MicrovmImageSummary{
		{Name: "counter", State: "UPDATED", LatestActiveImageVersion: new("2.0"), LatestFailedImageVersion: new("3.0"), CreatedAt: before(3 * time.Hour)},
		{Name: "broken", State: "CREATE_FAILED", LatestFailedImageVersion: new("1.0"), CreatedAt: before(5 * time.Second)},
	}, fixedNow)

	section("events")
	events := []extension.Event{
		{At: before(0), Subject: firstVM, Operation: "launch", From: "PENDING", To: "RUNNING", Cause: "api", Phases: []extension.Phase{
			{Name: "queue", Seconds: 0.0001}, {Name: "disk", Seconds: 0.004}, {Name: "vmm", Seconds: 0.06}, {Name: "load", Seconds: 0.02}, {Name: "agent", Seconds: 0.13}}},
		{At: before(time.Minute), Subject: fakeImageARN("counter"), Operation: "build 1.0", From: "CREATING", To: "CREATE_FAILED", Cause: "build", Detail: evil},
		{At: before(time.Minute), Subject: firstVM, Operation: "suspend", From: "SUSPENDING", To: "SUSPENDED", Cause: "idle", Detail: "8178892 bytes dirty"},
		{At: before(2 * time.Minute), Subject: fakeImageARN("counter"), Operation: "create", To: "CREATING", Cause: "api"},
	}
	printEvents(screen, events, false, time.UTC)
	section("events --phases")
	printEvents(screen, events[:1], true, time.UTC)

	section("inspect MICROVM")
	vms[0].IdlePolicy = &awsapi.IdlePolicy{MaxIdleDurationSeconds: 60, SuspendedDurationSeconds: 28800}
	vms[0].State, vms[0].MaximumDurationInSeconds = "SUSPENDED", 28800
	vms[0].IngressNetworkConnectors = []string{arn.ManagedConnector("us-east-1", "HTTP_INGRESS").String()}
	vms[0].EgressNetworkConnectors = []string{"arn:aws:lambda:us-east-1:000000000000:network-connector:nc-1"}
	view := microVMView{MicroVM: &vms[0], Last: events[:1], Details: &extension.MicroVM{
		MemoryMiB: new(2048), CPUs: new(1), DiskBytes: new(int64(3 << 20)), CheckpointBytes: new(int64(41 << 20)), SuspendedAt: new(before(20 * time.Second)),
		Networks: []string{"office"}, Traffic: extension.Traffic{IngressIn: 1 << 10, IngressOut: 2 << 20, EgressIn: 3 << 30, EgressOut: 4 << 10, Denied: 5},
	}}
	view.print(screen, fixedNow)

	section("inspect IMAGE")
	image := imageView{
		Image: &awsapi.GetMicrovmImageOutput{Name: "counter", ImageArn: fakeImageARN("counter"), State: "CREATED", CreatedAt: before(time.Hour), Tags: map[string]string{"team": evil}},
		Versions: []awsapi.MicrovmImageVersionSummary{{
			ImageVersion: "1.0", State: "SUCCESSFUL", Status: "ACTIVE", Resources: []awsapi.Resources{{MinimumMemoryInMiB: 512}}, CreatedAt: before(time.Hour)}},
		Build: new(builtWell()),
	}
	image.print(screen, fixedNow)
	golden(t, "people.txt", out.String())
	require.NotContains(t, out.String(), "\x1b", "nothing is coloured where nobody looks, and strangers are not obeyed")
}
