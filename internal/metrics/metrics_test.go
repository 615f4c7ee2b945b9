package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/logship"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// busy is the set of a daemon in which something of everything has happened.
func busy() *Set {
	clock := clockwork.NewFakeClock()
	s := New("v1", Sources{
		Survey: func() microvm.Survey {
			return microvm.Survey{
				States: map[string]int{store.VMRunning: 2}, Parked: 3, VMMs: []int{os.Getpid()},
				Network: netstack.Counters{BytesIn: 5, EgressSent: 7, Denied: 9},
			}
		},
		Shipped: logship.New(logship.Config{Clock: clock}), Rejected: func() int64 { return 4 }, Clock: clock,
	})
	phases := []store.Phase{{Name: "queue", Duration: time.Second}, {Name: "load", Duration: 20 * time.Millisecond}}
	s.Event(store.Event{Subject: "microvm-1", Operation: "launch", To: store.VMRunning, Cause: "api", Phases: phases})
	s.Event(store.Event{Subject: "microvm-1", Operation: "terminate", To: store.VMTerminated, Cause: "failure"})
	s.Event(store.Event{Subject: "microvm-1", Operation: "egress", Cause: "policy"})
	s.Event(store.Event{Subject: "image", Operation: "build 1.0", To: store.ImageCreated, Phases: phases})
	s.Event(store.Event{Subject: "image", Operation: "build 2.0", To: store.ImageUpdateFailed, Phases: phases})
	s.Event(store.Event{Subject: "image", Operation: "create", To: store.ImageCreating})
	s.Call(awsapi.Call{Operation: "RunMicrovm", Status: 200, Began: clock.Now(), Ended: clock.Now().Add(time.Millisecond)})
	s.Call(awsapi.Call{Operation: "unknown", Status: 403, Code: awsapi.AccessDeniedException})
	s.Request(endpoint.Observed{Status: 204, Answered: clock.Now(), Began: clock.Now()})
	s.Request(endpoint.Observed{Status: 502, Code: "MICROVM_SUSPENDED"})
	s.Request(endpoint.Observed{})
	return s
}

func scrape(t *testing.T, s *Set) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code)
	return w.Body.String()
}

func TestMetricsTellWhatHappened(t *testing.T) {
	text := scrape(t, busy())
	for _, line := range []string{
		`dormouse_build_info{go="go`,
		`dormouse_microvms{state="RUNNING"} 2`, `dormouse_microvms{state="SUSPENDED"} 0`,
		`dormouse_microvm_operation_seconds_sum{operation="launch"} 1.02`,
		`dormouse_microvm_phase_seconds_sum{operation="launch",phase="load"} 0.02`,
		`dormouse_microvm_changes_total{cause="failure",operation="terminate",state="TERMINATED"} 1`,
		`dormouse_image_build_seconds_sum{result="failed"} 0.02`, `dormouse_image_build_seconds_count{result="succeeded"} 1`,
		`dormouse_image_build_phase_seconds_count{phase="queue"} 2`,
		`dormouse_api_calls_total{code="OK",operation="RunMicrovm"} 1`, `dormouse_api_calls_total{code="AccessDeniedException",operation="unknown"} 1`,
		`dormouse_endpoint_answer_seconds_count{class="2xx"} 1`, `dormouse_endpoint_answer_seconds_count{class="none"} 1`,
		`dormouse_endpoint_refusals_total{code="MICROVM_SUSPENDED"} 1`, `dormouse_endpoint_parked_requests 3`,
		`dormouse_network_bytes_total{direction="in"} 5`, `dormouse_egress_bytes_total{direction="sent"} 7`, `dormouse_egress_denials_total 9`,
		`dormouse_log_events_rejected_total 4`, `dormouse_vmm_processes 1`, `go_goroutines `, `process_resident_memory_bytes `,
	} {
		require.Contains(t, text, line)
	}
	require.NotContains(t, text, `operation="egress"`, "that is no change of state")
	private := regexp.MustCompile(`dormouse_vmm_memory_bytes\{kind="private"\} (\S+)`).FindStringSubmatch(text)
	require.NotNil(t, private)
	require.NotEqual(t, "0", private[1], "this process has memory of its own")
}

func TestNamesAreAsPrometheusWantsThem(t *testing.T) {
	problems, err := testutil.GatherAndLint(busy().registry)
	require.NoError(t, err)
	for _, p := range problems {
		require.False(t, strings.HasPrefix(p.Metric, namespace), "%s: %s", p.Metric, p.Text)
	}
}

// TestTheDocumentationHasAllMetrics compares the table of docs/observability.md with what there is.
func TestTheDocumentationHasAllMetrics(t *testing.T) {
	families, err := busy().registry.Gather()
	require.NoError(t, err)
	var have []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), namespace) {
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		have = append(have, fmt.Sprintf("%s %s %s", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", ")))
	}
	text, err := os.ReadFile("../../docs/observability.md")
	require.NoError(t, err)
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(dormouse_[a-z_]+)` \\| ([a-z]+) \\| ([a-z, ]*?) ?\\|").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, strings.Join(row[1:], " "))
	}
	require.ElementsMatch(t, have, documented)
}

func TestMemoryIsMeasuredWithinATimeAndKept(t *testing.T) {
	clock := clockwork.NewFakeClock()
	reads := map[int]int{}
	m := &memoryMeter{clock: clock, read: func(pid int) (memory, error) {
		reads[pid]++
		if pid == 9 {
			return memory{}, os.ErrNotExist
		}
		clock.Advance(memoryLimit / 2)
		return memory{private: 10, shared: int64(pid)}, nil
	}}
	require.Equal(t, memory{20, 3}, m.of([]int{1, 2, 3, 9}), "there was time for two")
	require.Equal(t, memory{30, 6}, m.of([]int{1, 2, 3}), "those are known")
	require.Equal(t, map[int]int{1: 1, 2: 1, 3: 1}, reads)
	clock.Advance(memoryKeep)
	require.Equal(t, memory{10, 3}, m.of([]int{3, 9}))
	require.Equal(t, map[int]int{1: 1, 2: 1, 3: 2, 9: 1}, reads)
}

func FuzzRollup(f *testing.F) {
	f.Add("Rss: 4 kB\nPrivate_Clean: 1 kB\nShared_Dirty: 2 kB\n")
	f.Fuzz(func(_ *testing.T, text string) { parseRollup([]byte(text)) })
}

func TestRollupAddsUpCleanAndDirty(t *testing.T) {
	require.Equal(t, memory{private: 3 << 10, shared: 12 << 10},
		parseRollup([]byte("00-ff ---p 0 00:00 0 [rollup]\nRss: 99 kB\nShared_Clean: 4 kB\nShared_Dirty: 8 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\n")))
}

// BenchmarkRequest is what counting a request costs.
func BenchmarkRequest(b *testing.B) {
	s := busy()
	o := endpoint.Observed{Status: 200, Began: time.Now(), Answered: time.Now()}
	for b.Loop() {
		s.Request(o)
	}
}
