package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/dormouse-dev/dormouse/internal/logship/cloudwatchtest"
	"github.com/dormouse-dev/dormouse/internal/spans/spanstest"
	"github.com/dormouse-dev/dormouse/test/e2e/daemon"
)

// tracesTaken is a collector in which spans can be looked for.
type tracesTaken struct{ spanstest.Collector }

// named returns a span of a name that has come, or nil.
func (c *tracesTaken) named(name string, accept func(*trace.Span) bool) *trace.Span {
	for _, s := range c.Spans() {
		if s.Name == name && accept(s) {
			return s
		}
	}
	return nil
}

// One daemon that tells all it can: its log groups are CloudWatch Logs, somebody scrapes it, and its traces are taken.
func TestWhatHappensIsSeenFromOutside(t *testing.T) {
	t.Parallel()
	logs, traces := cloudwatchtest.New(), &tracesTaken{}
	logServer, traceServer := httptest.NewServer(logs), httptest.NewServer(traces)
	t.Cleanup(logServer.Close)
	t.Cleanup(traceServer.Close)
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	scrape := free.Addr().String()
	require.NoError(t, free.Close())
	h := ownHost(t, func(d *daemon.Daemon) {
		d.Flags = []string{"--cloudwatch-logs-endpoint", logServer.URL, "--listen-metrics", scrape, "--otlp-endpoint", traceServer.URL}
		d.Env = []string{"AWS_ACCESS_KEY_ID=" + cloudwatchtest.Key, "AWS_SECRET_ACCESS_KEY=" + cloudwatchtest.Secret, "AWS_EC2_METADATA_DISABLED=true"}
	})
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	group := "/aws/lambda-microvms/" + image.created.Name
	role := object{"idlePolicy": wakesOnTraffic, "executionRoleArn": "arn:aws:iam::" + account + ":role/run"}

	t.Run("the log of the build", func(t *testing.T) {
		for part, text := range map[string]string{"build-": "==> Running the Dockerfile", "snapshot-": "hook ready", "validate-": "hook validate"} {
			var got []string
			eventually(t, stateLimit, "lines of "+part, func() (bool, any) {
				for _, stream := range logs.Streams(group) {
					if strings.Contains(stream, "[1.0]"+part) {
						got = sent(logs, group, stream)
					}
				}
				return slices.Contains(got, text), got
			})
		}
	})

	t.Run("each line of an app, once, over a suspend, an outage and kill -9", func(t *testing.T) {
		v := h.runUntilRunning(t, image.arn, role)
		stream := v.get().StartedAt.UTC().Format("2006/01/02") + "[1.0]" + v.id
		want := []string{"hook run", "one"}
		v.print("one")
		requireSent(t, logs, group, stream, want)
		v.suspend()
		v.print("two")
		want = append(want, "hook suspend", "hook resume", "two")
		requireSent(t, logs, group, stream, want)

		logs.SetAway(true)
		v.print("three")
		v.requireLog(append(slices.Clone(want), "three"), "while the service is away")
		h.crash(t)
		v.print("four")
		want = append(want, "three", "four")
		v.requireLog(want, "after kill -9")
		logs.SetAway(false)
		requireSent(t, logs, group, stream, want)
		v.call("TerminateMicrovm")
		v.await("TERMINATED")
		requireSent(t, logs, group, stream, append(want, "hook terminate"))
		require.Empty(t, logs.Mistakes())
	})

	t.Run("a group of its own, no role, and none at all", func(t *testing.T) {
		own := h.runUntilRunning(t, image.arn, object{
			"executionRoleArn": role["executionRoleArn"], "logging": object{"cloudWatch": object{"logGroup": "/team/../a", "logStream": "s"}},
		})
		own.print("to its own group")
		requireSent(t, logs, "/team/../a", "s", []string{"hook run", "to its own group"})
		own.in(t).remove()

		without := h.runUntilRunning(t, image.arn, object{"logging": object{"cloudWatch": object{"logGroup": "/none"}}})
		without.print("to a file")
		eventually(t, stateLimit, "a line in the file of a log group", func() (bool, any) {
			files, err := filepath.Glob(filepath.Join(h.Dir, "logs/groups", account, region, "%2Fnone", "*"))
			require.NoError(t, err)
			text := ""
			for _, file := range files {
				read, err := os.ReadFile(file)
				require.NoError(t, err)
				text += string(read)
			}
			return strings.Contains(text, "to a file\n"), text
		})
		require.Empty(t, logs.Streams("/none"))
		without.in(t).remove()

		silent := h.runUntilRunning(t, image.arn, object{"executionRoleArn": role["executionRoleArn"], "logging": object{"disabled": object{}}})
		silent.print("nobody hears this")
		_, err := h.Command(context.Background(), "logs", silent.id)
		require.ErrorContains(t, err, "Logging is disabled")
		require.NoDirExists(t, filepath.Join(h.Dir, "logs/microvms", silent.id))
		silent.in(t).remove()
	})

	t.Run("metrics", func(t *testing.T) {
		v := h.runUntilRunning(t, image.arn, role)
		v.print("x")
		v.suspend()
		v.print("y")
		want := []string{
			`dormouse_microvms{state="RUNNING"} 1`, `dormouse_microvm_phase_seconds_count{operation="resume",phase="load"} `,
			`dormouse_microvm_changes_total{cause="api",operation="suspend",state="SUSPENDED"} `, `dormouse_endpoint_answer_seconds_count{class="2xx"} `,
			`dormouse_api_calls_total{code="OK",operation="RunMicrovm"} `, `dormouse_vmm_processes 1`, `dormouse_log_lines_sent_total `,
		}
		var text string
		eventually(t, stateLimit, "metrics", func() (bool, any) { // a wake is recorded after it serves
			text = get(t, "http://"+scrape+"/metrics")
			missing := slices.DeleteFunc(slices.Clone(want), func(line string) bool { return strings.Contains(text, line) })
			return len(missing) == 0, missing
		})
		require.False(t, strings.Contains(text, account) || strings.Contains(text, v.id), "no names of accounts and microVMs")
	})

	t.Run("traces", func(t *testing.T) {
		v := h.runUntilRunning(t, image.arn, role)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+v.at+"/headers", http.NoBody)
		require.NoError(t, err)
		const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		request.Header.Set("Traceparent", parent)
		request.Header.Set("X-aws-proxy-auth", v.token)
		response, err := v.http.Do(request)
		require.NoError(t, err)
		seen, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Contains(t, string(seen), parent, "the app sees the client's header unchanged")

		every := func(*trace.Span) bool { return true }
		var run, launch, phase, asked *trace.Span
		eventually(t, stateLimit, "spans", func() (bool, any) {
			launch = traces.named("launch", func(s *trace.Span) bool { return hasAttribute(s, v.id) })
			if launch != nil {
				run = traces.named("RunMicrovm", func(s *trace.Span) bool { return bytes.Equal(s.SpanId, launch.ParentSpanId) })
				phase = traces.named("launch load", func(s *trace.Span) bool { return bytes.Equal(s.ParentSpanId, launch.SpanId) })
			}
			asked = traces.named("endpoint request", every)
			return run != nil && phase != nil && asked != nil, nil
		})
		require.Equal(t, run.TraceId, launch.TraceId)
		require.Equal(t, launch.TraceId, phase.TraceId)
		require.LessOrEqual(t, run.StartTimeUnixNano, launch.StartTimeUnixNano)
		require.LessOrEqual(t, phase.EndTimeUnixNano, launch.EndTimeUnixNano)
		require.Equal(t, "0af7651916cd43dd8448eb211c80319c", hex.EncodeToString(asked.TraceId))
		require.Equal(t, "b7ad6b7169203331", hex.EncodeToString(asked.ParentSpanId))
	})
}

func hasAttribute(s *trace.Span, value string) bool {
	for _, a := range s.Attributes {
		if a.Value.GetStringValue() == value {
			return true
		}
	}
	return false
}

// sent are the messages of a stream.
func sent(logs *cloudwatchtest.Server, group, stream string) (messages []string) {
	for _, e := range logs.Events(group, stream) {
		messages = append(messages, e.Message)
	}
	return messages
}

// requireSent waits until a stream has as many lines, and compares them.
func requireSent(t *testing.T, logs *cloudwatchtest.Server, group, stream string, want []string) {
	t.Helper()
	var got []string
	eventually(t, stateLimit, "lines in "+group+" "+stream, func() (bool, any) {
		got = sent(logs, group, stream)
		return len(got) >= len(want), got
	})
	require.Equal(t, want, got)
}

func get(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}
