package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/bench/payload"
)

const msec = time.Millisecond

// measured is a data plane as a run in which all went well leaves it.
func measured() *dataPlane {
	moved := func(took time.Duration) []transfer {
		return []transfer{{took, 40 * msec, 20 * msec}, {2 * took, 80 * msec, 40 * msec}, {took, 40 * msec, 20 * msec}}
	}
	return &dataPlane{
		transfers: &transfers{
			bytes: 4 * mebibyte,
			down:  map[string][]transfer{wayDirect: moved(80 * msec), wayAgent: moved(80 * msec), wayEndpoint: moved(100 * msec)},
			up:    map[string][]transfer{wayDirect: moved(80 * msec), wayAgent: moved(80 * msec), wayEndpoint: moved(90 * msec)},
		},
		latency: &latency{took: map[string][]time.Duration{
			wayDirect: {msec, msec, 9 * msec}, wayAgent: {msec, msec, msec}, wayEndpoint: {msec, 1500 * time.Microsecond, 8 * msec},
		}},
		sockets: &sockets{
			vms: 2, opened: 4, lasted: time.Second, sent: 10,
			arrived:  payload.Totals{Ledger: payload.Ledger{Next: 10, Received: 10}},
			returned: payload.Ledger{Next: 10, Received: 10},
		},
		volleys: &volleys{
			requests: 10, awake: []time.Duration{200 * msec}, wake: []time.Duration{100 * msec}, asleep: []time.Duration{450 * msec}, wakes: []int{1},
		},
		steady: &steady{
			rounds: 3, wanted: 3, took: []time.Duration{msec, msec, msec}, requests: 7, sent: 4,
			arrived: payload.Totals{Ledger: payload.Ledger{Next: 4, Received: 4}}, suspends: 3, wakes: 3,
		},
	}
}

func missedGoals(d *dataPlane) (names []string) {
	d.timing().goals(func(name, _, _ string, met bool) {
		if !met {
			names = append(names, name)
		}
	})
	return names
}

func TestTheDataPlanesGoals(t *testing.T) {
	require.Empty(t, missedGoals(measured()))
	for _, test := range []struct {
		name  string
		spoil func(d *dataPlane)
		want  string
	}{
		{"slow download", func(d *dataPlane) { d.transfers.down[wayEndpoint] = []transfer{{took: 101 * msec}} }, "endpoint, download"},
		{"slow upload", func(d *dataPlane) { d.transfers.up[wayEndpoint] = []transfer{{took: 101 * msec}} }, "endpoint, upload"},
		{"latency", func(d *dataPlane) { d.latency.took[wayEndpoint][1] += time.Microsecond }, "endpoint, added to a small request, p50"},
		{"a message is lost", func(d *dataPlane) { d.sockets.sent++ }, "4 WebSockets over 2 VMs"},
		{"a reply is lost", func(d *dataPlane) { d.sockets.returned.Next-- }, "4 WebSockets over 2 VMs"},
		{"a reply is damaged", func(d *dataPlane) { d.sockets.damaged++ }, "4 WebSockets over 2 VMs"},
		{"a message comes twice", func(d *dataPlane) { d.sockets.arrived.Repeated++ }, "4 WebSockets over 2 VMs"},
		{"a socket fails", func(d *dataPlane) { d.sockets.failed = []error{errors.New("cut")} }, "4 WebSockets over 2 VMs"},
		{"nothing was sent", func(d *dataPlane) { d.sockets = &sockets{vms: 2, opened: 4} }, "4 WebSockets over 2 VMs"},
		{"a request of the volley fails", func(d *dataPlane) { d.volleys.failed = []error{errors.New("502")} }, "10 requests to a suspended VM"},
		{"two wakes", func(d *dataPlane) { d.volleys.wakes[0]++ }, "the same, wakes in each of the volleys"},
		{"slow volley", func(d *dataPlane) { d.volleys.asleep[0] += msec }, "the same, p50"},
		{"a request under traffic fails", func(d *dataPlane) { d.steady.failures = []failure{{Status: 502}} }, "3 rounds of suspend and wake under traffic"},
		{"a round is missing", func(d *dataPlane) { d.steady.rounds-- }, "3 rounds of suspend and wake under traffic"},
		{"a post never reached the app", func(d *dataPlane) { d.steady.sent++ }, "3 rounds of suspend and wake under traffic"},
		{"a post reached the app twice", func(d *dataPlane) { d.steady.arrived.Repeated++ }, "the same, messages to the app"},
		{"something was forgotten", func(d *dataPlane) { d.steady.forgot = []string{"round 2: disk"} }, "the same, the guest's memory and disk"},
		{"a suspend too few", func(d *dataPlane) { d.steady.suspends-- }, "the same, suspends and wakes in its events"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := measured()
			test.spoil(d)
			require.Equal(t, []string{test.want}, missedGoals(d))
		})
	}
}

func TestSpeedsAreMedians(t *testing.T) {
	timing := measured().timing().Throughput
	require.Equal(t, speed{PerSecond: 50, VMM: ms(10 * msec), Host: ms(5 * msec)}, timing.Ways[0].Download)
	require.InDelta(t, 0.8, *timing.DownloadRatio, 0.001)
	text, err := json.Marshal(timing.Ways[0])
	require.NoError(t, err)
	require.JSONEq(t, `{"way": "direct",
		"download": {"mib_per_s": 50, "vmm_cpu_ms_per_mib": 10.00, "host_cpu_ms_per_mib": 5.00},
		"upload": {"mib_per_s": 50, "vmm_cpu_ms_per_mib": 10.00, "host_cpu_ms_per_mib": 5.00}}`, string(text))
}

func TestTheReportShowsTheDataPlane(t *testing.T) {
	r := result{Data: measured().timing()}
	text, err := r.markdown()
	require.NoError(t, err)
	report := string(text)
	for _, line := range []string{
		"| endpoint | 40 MiB/s | 10.0 ms, 5.0 ms | 44.4 MiB/s | 10.0 ms, 5.0 ms |",
		"| **endpoint by agent** | **0.80 ×** | | **0.89 ×** | |",
		"| **endpoint minus agent** | **0.50 ms** | |",
		"| messages and replies | 10 and 10 |",
		"| by the sum of the two above | 1.50 × |",
		"| 3 of 3 rounds of SuspendMicrovm under traffic | |",
	} {
		require.Contains(t, report, line+"\n")
	}
	for line := range strings.Lines(report) {
		require.NotContains(t, line, "<no value>")
	}
	r.Data = nil
	text, err = r.markdown()
	require.NoError(t, err)
	require.NotContains(t, string(text), "Data plane")
}

func TestEachWayHasEachPlaceAsOften(t *testing.T) {
	require.Equal(t, []int{1, 2, 3}, inTurn([]int{1, 2, 3}, 0))
	require.Equal(t, []int{2, 3, 1}, inTurn([]int{1, 2, 3}, 1))
	require.Equal(t, []int{3, 1, 2}, inTurn([]int{1, 2, 3}, 5))
}
