package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

func TestEveryVerbHasAnExample(t *testing.T) {
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Runnable() && cmd.Name() != "help" {
			require.Contains(t, cmd.Example, "dormouse", cmd.CommandPath())
			require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		}
		for _, part := range cmd.Commands() {
			check(part)
		}
	}
	check(rootCommand())
}

func TestAppOfAMicroVMIsCalledWithAToken(t *testing.T) {
	f := newFake(t)
	f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	var got *http.Request
	var body []byte
	f.endpoint = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("x-app", "counter")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, "short and \x1b[31mstout")
	})
	require.Equal(t, "short and \x1b[31mstout", ok(t, "curl", "counter"), "programs get what the app sent")
	require.Equal(t, []string{"GET", "/", "token-of-" + firstVM}, []string{got.Method, got.URL.Path, got.Header.Get(authHeader)})

	out := ok(t, "curl", "0c5b", "/a?b=c", "-d", "hello", "-H", "x-one: 1", "-H", "x-two:2", "-i", "--port", "9000")
	require.Contains(t, out, "HTTP/1.1 418 I'm a teapot\n")
	require.Contains(t, out, "X-App: counter\r\n")
	require.Equal(t, []string{"POST", "/a?b=c", "1", "2", "9000", "application/x-www-form-urlencoded", "hello"}, []string{
		got.Method, got.URL.String(), got.Header.Get("x-one"), got.Header.Get("x-two"), got.Header.Get(portHeader), got.Header.Get("content-type"), string(body)})

	file := filepath.Join(t.TempDir(), "answer")
	require.Empty(t, ok(t, "curl", "counter", "/", "-X", "PUT", "--json", `{"a":1}`, "-o", file))
	require.Equal(t, []string{"PUT", "application/json"}, []string{got.Method, got.Header.Get("content-type")})
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "short and \x1b[31mstout", string(text))

	require.Equal(t, exitFailed, dormouse(t, "curl", "counter", "/", "--fail").status)
}

func TestCurlTakesFlagsAsCurlDoes(t *testing.T) {
	f := newFake(t)
	f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	var got *http.Request
	f.endpoint = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		fmt.Fprint(w, "answer")
	})
	t.Chdir(t.TempDir())
	require.Equal(t, "answer", ok(t, "curl", "counter", "/", "-d", "", "-H", "Host: example.org", "-H", "x-a: 1", "-H", "X-A: 2", "-H", "user-agent: me", "-o", "-", "-s", "-m", "5"))
	require.Equal(t, []string{"POST", "example.org", "me"}, []string{got.Method, got.Host, got.Header.Get("user-agent")})
	require.Equal(t, []string{"1", "2"}, got.Header["X-A"])
	require.NoFileExists(t, "-")
}

func TestWhatTheEndpointRefusesIsExplained(t *testing.T) {
	f := newFake(t)
	f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	f.endpoint = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-aws-proxy-error", "APP_CONNECT_FAILED")
		w.WriteHeader(http.StatusBadGateway)
	})
	r := dormouse(t, "curl", "counter", "/", "--port", "81")
	require.Equal(t, exitFailed, r.status)
	require.Contains(t, r.err, "HTTP 502 from the endpoint: nothing listens on port 81 in the microVM")

	f.endpoint = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-aws-proxy-error", "REQUEST_RATE_EXCEEDED")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	require.Contains(t, dormouse(t, "curl", "counter").err, "HTTP 429 from the endpoint: too many requests a second")
}

func TestACertificateThatTheEnvironmentDoesNotKnowIsExplained(t *testing.T) {
	f := newFake(t)
	f.addShellVM(nil)
	t.Setenv("DORMOUSE_CA_BUNDLE", "")
	r := dormouse(t, "curl", "counter")
	require.Equal(t, exitFailed, r.status)
	require.Contains(t, r.err, "is said by: dormouse up --endpoint-ca")
	r = typing(t, "", "exec", "0c5b7f6e", "ls")
	require.Equal(t, exitCut, r.status, "1 would be that of the command")
	require.Contains(t, r.err, "is said by: dormouse up --endpoint-ca")
	require.Equal(t, `it was checked against DORMOUSE_CA_BUNDLE, old.pem; after the daemon got other certificates: eval "$(dormouse env)"`, untrustedAdvice("old.pem"))
}

func TestMicroVMsAreListedSuspendedWokenAndEnded(t *testing.T) {
	f := newFake(t)
	f.addImage("counter")
	f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	f.addVM(secondVM, "old", awsapi.MicrovmStateTerminated)
	require.Equal(t, firstVM+"\n", ok(t, "ps", "-q"))
	require.Equal(t, firstVM+"\n"+secondVM+"\n", ok(t, "ps", "-aq"))
	var listed []awsapi.GetMicrovmOutput
	require.NoError(t, json.Unmarshal([]byte(ok(t, "ps", "--output", "json")), &listed))
	require.Len(t, listed, 1)
	require.Equal(t, f.tls.Listener.Addr().String(), listed[0].Endpoint)

	require.Regexp(t, `^0c5b7f6e is asleep \(.*\)\n$`, ok(t, "suspend", "counter"))
	require.Equal(t, awsapi.MicrovmStateSuspended, f.vms[0].State)
	require.Contains(t, ok(t, "resume", "0c5b"), "is awake")

	r := dormouse(t, "rm", "counter")
	require.Equal(t, exitRefused, r.status)
	require.Contains(t, r.err, "dormouse: Cannot delete microvm image with running microvms. (ValidationException)\n  end its microVMs first: dormouse rm -f counter")
	require.Equal(t, "0c5b7f6e ended\ncounter deleted\n", ok(t, "rm", "-f", "counter"))
	require.Empty(t, f.images)
}

func TestEventsAndLogsArePrinted(t *testing.T) {
	f := newFake(t)
	f.addImage("counter")
	f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	f.events = []extension.Event{{Subject: firstVM, Operation: "launch", From: "PENDING", To: "RUNNING", Phases: []extension.Phase{{Name: "queue", Seconds: 0.5}}}}
	f.logs[firstVM+"/app"] = "2026-11-25T19:10:00.123456Z stdout hello\n2026-11-25T19:10:00.2Z stderr oh \x1b[0m\nodd\n"
	f.logs[firstVM+"/console"] = "Linux\n"
	f.logs[buildUUID+"/build"] = "==> The image is ready\n"

	r := dormouse(t, "logs", "counter")
	require.Equal(t, result{"hello\nodd\n", "oh \\x1b[0m\n", exitOK}, r)
	require.Contains(t, ok(t, "logs", "-t", "counter"), "2026-11-25T19:10:00.123456Z stdout hello\n")
	require.Contains(t, ok(t, "logs", "--raw", "counter"), "stderr oh \x1b[0m\n")
	require.Equal(t, "Linux\n", ok(t, "logs", "--console", "0c5b"))
	require.Equal(t, "==> The image is ready\n", ok(t, "logs", "--build", "counter"))
	require.Equal(t, "==> The image is ready\n", ok(t, "logs", "--build", "-f", buildUUID))
	require.Equal(t, exitUsage, dormouse(t, "logs", "--console", "--vmm", "0c5b").status)

	var events []extension.Event
	require.NoError(t, json.Unmarshal([]byte(ok(t, "events", "0c5b", "--output", "json")), &events))
	require.Equal(t, f.events, events)
	require.Equal(t, "[]\n", ok(t, "events", "counter", "--output", "json"), "of the image there are none")

	f.vms[0].State = awsapi.MicrovmStateTerminated
	const ended = "dormouse: counter has no live microVM; this is of the one that was started last, 0c5b7f6e\n"
	require.Equal(t, result{"hello\nodd\n", ended + "oh \\x1b[0m\n", exitOK}, dormouse(t, "logs", "counter"))
	require.Equal(t, result{"Linux\n", ended, exitOK}, dormouse(t, "logs", "--console", "counter"))
	images := f.images
	f.images = nil // the image was deleted
	r = dormouse(t, "events", "counter")
	require.Equal(t, []any{ended, exitOK}, []any{r.err, r.status})
	require.Contains(t, r.out, "launch")
	require.Contains(t, ok(t, "inspect", "counter"), "TERMINATED")

	f.vms, f.images = nil, images
	r = dormouse(t, "logs", "counter")
	require.Equal(t, result{"==> The image is ready\n", "dormouse: counter has no microVM; this is the log of its build\n", exitOK}, r)
}

func TestEveryKindOfFailureHasItsStatusAndAdvice(t *testing.T) {
	f := newFake(t)
	f.addImage("counter")
	for line, want := range map[string]struct {
		status exitStatus
		err    string
	}{
		"imagse":                             {exitUsage, "dormouse: there is no verb \"imagse\"\n  did you mean images?"},
		"stop":                               {exitUsage, "did you mean suspend, down?"},
		"attach":                             {exitUsage, "did you mean shell, logs?"},
		"exec counter":                       {exitUsage, "dormouse: COMMAND is missing"},
		"delete":                             {exitUsage, "did you mean rm?"},
		"ps --nope":                          {exitUsage, "see dormouse ps --help"},
		"run":                                {exitUsage, "dormouse: IMAGE[:VERSION] is missing\n  usage: dormouse run IMAGE[:VERSION]; see dormouse run --help\n  dormouse images lists images"},
		"rm":                                 {exitUsage, "dormouse: MICROVM|IMAGE[:VERSION] is missing"},
		"suspend":                            {exitUsage, "dormouse: MICROVM is missing"},
		"build":                              {exitUsage, "dormouse: PATH is missing"},
		"run counter web":                    {exitUsage, "dormouse: \"web\" is too much\n  usage: dormouse run"},
		"credentials create":                 {exitUsage, "dormouse: --account is missing: the id or the name of an account\n  see them all: dormouse account list"},
		"run counter --memory 3g":            {exitUsage, "3g is none of the sizes there are: 512m, 1g, 2g, 4g, 8g"},
		"run counter --ingress x":            {exitUsage, "dormouse: --ingress: there is no connector \"x\": it is http, shell, all, none, or the ARN of a connector"},
		"run counter --shell --ingress all":  {exitUsage, "dormouse: --ingress all does not go with --shell"},
		"run counter --shell --ingress none": {exitUsage, "--ingress shell lets in shells alone"},
		"run counter --egress=":              {exitUsage, "dormouse: --egress has no value: it is internet, none, or the ARN of a connector"},
		"build " + buildable(t) + " --egress some": {exitUsage, "dormouse: --egress: there is no connector \"some\": it is internet, none, or the ARN of a connector"},
		"curl counter / -m x":                      {exitUsage, "\"x\" is no time such as 5, 0.5 or 1m30s"},
		"up --rate-limits Run=1":                   {exitUsage, "is it RunMicrovm?"},
		"run counter --idle 5s":                    {exitUsage, "the shortest time is 60s"},
		"run counter --memory 1g":                  {exitUsage, "counter:1.0 has 512m of memory, not 1g"},
		"run nope":                                 {exitNotFound, "dormouse: no image is called \"nope\"\n  see them all: dormouse images"},
		"curl counter /":                           {exitNotFound, "dormouse: image counter has no live microVM\n  start one: dormouse run counter"},
		"inspect " + firstVM:                       {exitNotFound, "MicroVM not found: " + firstVM + " (ResourceNotFoundException)"},
		"build " + t.TempDir():                     {exitUsage, "has no Dockerfile\n  an image is built from"},
		"build /no/such/folder":                    {exitUsage, "dormouse: there is no folder /no/such/folder"},
		"images -o yaml":                           {exitUsage, "it is text or json"},
		"events -n -1":                             {exitUsage, "not negative"},
		"logs counter --tail -5":                   {exitUsage, "not negative"},
	} {
		r := dormouse(t, strings.Fields(line)...)
		require.Equal(t, want.status, r.status, line)
		require.Contains(t, r.err, want.err, line)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	r := dormouse(t, "ps")
	require.Equal(t, exitRefused, r.status)
	require.Contains(t, r.err, "are these the keys of this daemon?")

	t.Setenv("AWS_ENDPOINT_URL_LAMBDA_MICROVMS", "http://127.0.0.1:1")
	r = dormouse(t, "ps")
	require.Equal(t, exitUnreachable, r.status)
	require.Equal(t, "dormouse: no daemon answers at 127.0.0.1:1\n  start it: dormouse up\n", r.err)

	t.Setenv("AWS_ENDPOINT_URL_LAMBDA_MICROVMS", "")
	r = dormouse(t, "ps")
	require.Equal(t, exitUnreachable, r.status)
	require.Contains(t, r.err, "no daemon serves from")
	elsewhere := t.TempDir()
	r = dormouse(t, "ps", "--data-dir", elsewhere)
	require.Equal(t, result{"", "dormouse: no daemon serves from " + elsewhere + "\n  start one: dormouse up --data-dir " + elsewhere + "\n", exitUnreachable}, r)
	require.Equal(t, exitInterrupted, func() exitStatus {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return report(io.Discard, "", ctx.Err())
	}())
}

func TestRefusalsWithAWayOutSayWhereItIs(t *testing.T) {
	s := &session{flags: " --data-dir x"}
	err := s.adviseVersions(reference.Image{Name: "counter"}, awsapi.NotFound("No active version found for MicroVM image counter"))
	_, hint, status := explain(err)
	require.Equal(t, exitNotFound, status)
	require.Equal(t, "its versions: dormouse images counter --data-dir x; what became of the last: dormouse logs --build counter --data-dir x", hint)
	_, hint, status = explain(awsapi.AccessDenied("Cross-account pass role is not allowed."))
	require.Equal(t, exitRefused, status)
	require.Contains(t, hint, "dormouse env --account NAME")
	_, hint, status = explain(awsapi.QuotaExceeded("too many"))
	require.Equal(t, exitRefused, status)
	require.Contains(t, hint, "dormouse ps, dormouse images")
}

func TestInspectTellsProgramsTheSame(t *testing.T) {
	f := newFake(t)
	f.addImage("counter")
	f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	f.events = []extension.Event{
		{Subject: firstVM, Operation: "resume", Phases: []extension.Phase{{Name: "vmm", Seconds: 0.1}}},
		{Subject: firstVM, Operation: "launch", Phases: []extension.Phase{{Name: "vmm", Seconds: 0.2}}},
		{Subject: firstVM, Operation: "launch"},
	}
	f.build = builtWell()
	var vm microVMView
	require.NoError(t, json.Unmarshal([]byte(ok(t, "inspect", "0c5b", "--output", "json")), &vm))
	require.Equal(t, []any{firstVM, 2048, 2}, []any{vm.MicroVM.MicrovmId, *vm.Details.MemoryMiB, len(vm.Last)})
	var image struct {
		Image    struct{ Name string }
		Versions []struct{ ImageVersion string }
		Build    struct{ BuildID string }
	}
	require.NoError(t, json.Unmarshal([]byte(ok(t, "inspect", "counter", "--output", "json")), &image))
	require.Equal(t, []any{"counter", "1.0", buildUUID}, []any{image.Image.Name, image.Versions[0].ImageVersion, image.Build.BuildID})
	require.Contains(t, ok(t, "inspect", "0c5b"), "last launch  200 ms")
	require.Contains(t, ok(t, "inspect", "0c5b"), "512 MiB of memory, up to 2 GiB for a while, 1 CPU\n")
	r := dormouse(t, "inspect", "counter")
	require.Contains(t, r.out, "0c5b7f6e   counter:1.0   RUNNING")
	require.Contains(t, r.err, "where the time of one went: dormouse inspect 0c5b7f6e\n")
	require.Contains(t, ok(t, "inspect", "counter"), "last build  version 1.0, SUCCESSFUL, 12.5 s")
	require.Contains(t, ok(t, "images", "counter"), "1.0       SUCCESSFUL   ACTIVE   512m")
	require.Equal(t, exitNotFound, dormouse(t, "inspect", "counter:7").status)
}

func TestCompletionKnowsTheDaemon(t *testing.T) {
	f := newFake(t)
	f.addImage("counter")
	f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	require.Contains(t, ok(t, "__complete", "curl", ""), "0c5b7f6e\tcounter RUNNING\n")
	require.Contains(t, ok(t, "__complete", "run", ""), "counter\timage CREATED\n")
	require.Contains(t, ok(t, "__complete", "inspect", ""), "counter\timage CREATED\n")
	require.Contains(t, ok(t, "__complete", "run", "counter:"), "counter:1.0\tSUCCESSFUL ACTIVE\n")
	t.Setenv("AWS_ENDPOINT_URL_LAMBDA_MICROVMS", "http://127.0.0.1:1")
	require.Equal(t, ":4\n", ok(t, "__complete", "curl", ""), "no daemon, no word")
	require.Contains(t, ok(t, "completion", "bash"), "dormouse")
}
