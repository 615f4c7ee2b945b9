package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

func TestRunSaysHowToReachTheMicroVM(t *testing.T) {
	f := newFake(t)
	f.addImage("counter")
	out := ok(t, "run", "counter")
	for _, part := range []string{
		firstVM, "counter:1.0", "https://" + f.tls.Listener.Addr().String(),
		"sleeps after 15m without requests, wakes on the next one, ends after 8h asleep",
		"  dormouse curl 0c5b7f6e /\n", "  dormouse token 0c5b7f6e\n",
		`  dormouse token --header 0c5b7f6e | curl --cacert ` + os.Getenv("DORMOUSE_CA_BUNDLE") + ` -H @- https://`,
	} {
		require.Contains(t, out, part)
	}
	require.Equal(t, firstVM+"\n", ok(t, "run", "-q", "counter"))
	var vm awsapi.GetMicrovmOutput
	require.NoError(t, json.Unmarshal([]byte(ok(t, "run", "counter", "--wait", "-o", "json")), &vm))
	require.Equal(t, awsapi.MicrovmStateRunning, vm.State)
}

func TestFlagsOfRunBecomeTheCall(t *testing.T) {
	f := newFake(t)
	f.addImage("counter")
	payload := filepath.Join(t.TempDir(), "payload")
	require.NoError(t, os.WriteFile(payload, []byte("who I am"), 0o600))
	ok(t, "run", "counter:2", "--idle", "90,1h,manual", "--payload", "@"+payload, "--ingress", "http,shell", "--egress", "internet",
		"--max-duration", "1h", "--role", "arn:aws:iam::000000000000:role/x", "--memory", "512m")
	in := f.ran[0]
	require.Equal(t, "2.0", *in.ImageVersion)
	require.Equal(t, fakeImageARN("counter"), in.ImageIdentifier)
	require.Equal(t, &awsapi.IdlePolicy{MaxIdleDurationSeconds: 90, SuspendedDurationSeconds: 3600}, in.IdlePolicy)
	require.Equal(t, "who I am", *in.RunHookPayload)
	require.Equal(t, []string{arn.ManagedConnector("us-east-1", "HTTP_INGRESS").String(), arn.ManagedConnector("us-east-1", "SHELL_INGRESS").String()}, in.IngressNetworkConnectors)
	require.Equal(t, []string{arn.ManagedConnector("us-east-1", "INTERNET_EGRESS").String()}, in.EgressNetworkConnectors)
	require.EqualValues(t, 3600, *in.MaximumDurationInSeconds)

	ok(t, "run", "counter", "--idle", "off")
	require.Nil(t, f.ran[1].IdlePolicy)
	require.Nil(t, f.ran[1].ImageVersion)

	require.NoError(t, os.WriteFile(payload, []byte(strings.Repeat("x", maxPayload+1)), 0o600))
	require.Equal(t, exitUsage, dormouse(t, "run", "counter", "--payload", "@"+payload).status)
}

func TestAnInterruptedWaitSaysWhatGoesOn(t *testing.T) {
	f := newFake(t)
	f.addImage("counter")
	ctx, cancel := context.WithCancel(t.Context())
	f.stuck = cancel
	r := dormouseIn(ctx, "run", "counter", "--wait")
	require.Equal(t, exitInterrupted, r.status)
	require.Contains(t, r.err, firstVM+" goes on without you; look: dormouse ps, end it: dormouse rm 0c5b7f6e")
}

func TestAnInterruptEndsTheWaitForInput(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe") // which nobody writes to, as nobody does to a terminal
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := argument(ctx, "@"+pipe, 1)
	require.ErrorIs(t, err, context.Canceled)
	end, err := os.OpenFile(pipe, os.O_RDWR, 0) // releases the reader
	require.NoError(t, err)
	require.NoError(t, end.Close())
}

func TestIdleIsReadAsPeopleWriteIt(t *testing.T) {
	for text, want := range map[string]*awsapi.IdlePolicy{
		"60":             {MaxIdleDurationSeconds: 60, SuspendedDurationSeconds: 28800, AutoResumeEnabled: true},
		"60s,8h,auto":    {MaxIdleDurationSeconds: 60, SuspendedDurationSeconds: 28800, AutoResumeEnabled: true},
		"15m,0,manual":   {MaxIdleDurationSeconds: 900},
		"1h30m,90s,auto": {MaxIdleDurationSeconds: 5400, SuspendedDurationSeconds: 90, AutoResumeEnabled: true},
		"off":            nil,
	} {
		got, err := parseIdle(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "59s", "x", "60s,x", "60s,1h,perhaps", "60s,1h,auto,more", "60.5s", "-60s", "60s,-1", "99999999999h"} {
		_, err := parseIdle(text)
		require.Error(t, err, text)
	}
}

func TestSizesAndPortsAreRead(t *testing.T) {
	for text, mib := range map[string]memorySize{"512": 512, "512m": 512, "512MiB": 512, "1g": 1024, "2GiB": 2048, "8gb": 8192} {
		var m memorySize
		require.NoError(t, m.Set(text), text)
		require.Equal(t, mib, m, text)
	}
	for _, text := range []string{"", "g", "-1", "0", "1.5g", "1t", "99999999999"} {
		require.Error(t, new(memorySize).Set(text), text)
	}
	require.EqualError(t, new(memorySize).Set("3g"), "3g is none of the sizes there are: 512m, 1g, 2g, 4g, 8g")
	ports, err := parsePorts([]string{"80", "8000-8100", "all"})
	require.NoError(t, err)
	text, err := json.Marshal(ports)
	require.NoError(t, err)
	require.JSONEq(t, `[{"port":80},{"range":{"startPort":8000,"endPort":8100}},{"allPorts":{}}]`, string(text))
	for _, text := range []string{"0", "65536", "9-8", "x", "1-", "-1"} {
		_, err := parsePorts([]string{text})
		require.Error(t, err, text)
	}
}
