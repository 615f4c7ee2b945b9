package main

import (
	"fmt"
	"strings"
	"time"
)

// dataTiming is the data plane's part of the result. Times are milliseconds.
type dataTiming struct {
	Throughput *throughputTiming `json:"throughput,omitempty"`
	Latency    *latencyTiming    `json:"latency,omitempty"`
	WebSockets *socketTiming     `json:"websockets,omitempty"`
	Volley     *volleyTiming     `json:"volley,omitempty"`
	Steady     *steadyTiming     `json:"steady_traffic,omitempty"`
}

// throughputTiming has medians of the rounds. Ratios are of the endpoint's speed by that through stack and agent,
// which is the goal, because apps on loopback can be dialled no other way; and by that of the direct way.
type throughputTiming struct {
	MiB           int            `json:"mib"`
	Rounds        int            `json:"rounds"`
	Ways          []wayTransfers `json:"ways"`
	DownloadRatio *float64       `json:"download_ratio"`
	UploadRatio   *float64       `json:"upload_ratio"`

	DownloadByDirect *float64 `json:"download_by_direct"`
	UploadByDirect   *float64 `json:"upload_by_direct"`
}

type wayTransfers struct {
	Way      string `json:"way"`
	Download speed  `json:"download"`
	Upload   speed  `json:"upload"`
}

// speed is how fast bodies move, and the CPU time it takes: in the guest's VMM, and in daemon and client.
type speed struct {
	PerSecond float64 `json:"mib_per_s"`
	VMM       ms      `json:"vmm_cpu_ms_per_mib"`
	Host      ms      `json:"host_cpu_ms_per_mib"`
}

func (s speed) String() string {
	return fmt.Sprintf("%.1f MiB/s (CPU per MiB: %.1f ms VMM, %.1f ms host)", s.PerSecond, s.VMM.float(), s.Host.float())
}

// latencyTiming compares small requests on each way.
type latencyTiming struct {
	Requests int            `json:"requests"`
	Ways     []wayQuantiles `json:"ways"`
	Added    ms             `json:"added_by_endpoint_p50_ms"`
	ByAgent  ms             `json:"before_it_by_the_relay_p50_ms"` // in the guest
}

type wayQuantiles struct {
	Way string `json:"way"`
	quantiles
}

type quantiles struct {
	P50 ms `json:"p50_ms"`
	P99 ms `json:"p99_ms"`
}

type socketTiming struct {
	Sockets   int      `json:"sockets"`
	VMs       int      `json:"vms"`
	Sent      uint64   `json:"sent"` // messages; as many replies are wanted
	Replies   uint64   `json:"replies"`
	Lost      uint64   `json:"lost"`  // messages and replies
	Wrong     uint64   `json:"wrong"` // damaged, or came again
	Failed    int      `json:"failed_sockets"`
	PerSecond float64  `json:"messages_per_s"` // both ways
	Errors    []string `json:"errors,omitempty"`
}

type volleyTiming struct {
	Requests int      `json:"requests"`
	Rounds   int      `json:"rounds"`
	Awake    ms       `json:"awake_p50_ms"`
	Wake     ms       `json:"one_wake_p50_ms"`
	Asleep   ms       `json:"suspended_p50_ms"`
	Ratio    *float64 `json:"suspended_by_wake_and_awake"`
	Wakes    []int    `json:"wakes"` // of each volley
	Failed   int      `json:"failed"`
	Errors   []string `json:"errors,omitempty"`
}

type steadyTiming struct {
	Rounds    int       `json:"rounds"`
	Wanted    int       `json:"rounds_wanted"`
	Broken    string    `json:"broken,omitempty"` // why not all rounds were made
	Round     quantiles `json:"round"`            // suspend, wake, verification
	Requests  int       `json:"requests"`
	Slowest   ms        `json:"slowest_request_ms"`
	Failed    int       `json:"failed"`
	Failures  []failure `json:"failures,omitempty"` // the first
	Messages  uint64    `json:"messages_sent"`
	Lost      uint64    `json:"messages_lost"` // never reached the app
	Repeated  uint64    `json:"messages_repeated"`
	Damaged   uint64    `json:"messages_damaged"`
	Forgot    int       `json:"times_forgotten"`     // the guest did not find its memory or disk as it was
	Forgotten []string  `json:"forgotten,omitempty"` // the first
	Suspends  int       `json:"suspends"`            // as the VM's events say
	Wakes     int       `json:"wakes"`
}

func (d *dataPlane) timing() *dataTiming {
	t := new(dataTiming)
	if d.transfers != nil {
		t.Throughput = d.transfers.timing()
	}
	if d.latency != nil {
		t.Latency = d.latency.timing()
	}
	if s := d.sockets; s != nil {
		t.WebSockets = &socketTiming{
			Sockets: s.opened, VMs: s.vms, Sent: s.sent, Replies: s.returned.Received, Lost: s.lost(), Wrong: s.wrong(),
			Failed: len(s.failed), Errors: tellErrors(s.failed), PerSecond: rate(s.arrived.Received+s.returned.Received, s.lasted),
		}
	}
	if v := d.volleys; v != nil {
		t.Volley = &volleyTiming{
			Requests: v.requests, Rounds: len(v.asleep), Awake: ms(percentile(v.awake, 50)), Wake: ms(percentile(v.wake, 50)),
			Asleep: ms(percentile(v.asleep, 50)), Ratio: v.excess(), Wakes: v.wakes, Failed: len(v.failed), Errors: tellErrors(v.failed),
		}
	}
	if d.steady != nil {
		t.Steady = d.steady.timing()
	}
	return t
}

func (t *transfers) timing() *throughputTiming {
	r := &throughputTiming{MiB: int(t.bytes / mebibyte), Rounds: len(t.down[wayDirect])}
	for _, way := range allWays {
		r.Ways = append(r.Ways, wayTransfers{way, t.speed(t.down[way]), t.speed(t.up[way])})
	}
	by := func(way string, moved map[string][]transfer) *float64 {
		return ratio(float64(median(moved[way], timeOf)), float64(median(moved[wayEndpoint], timeOf)))
	}
	r.DownloadRatio, r.UploadRatio = by(wayAgent, t.down), by(wayAgent, t.up)
	r.DownloadByDirect, r.UploadByDirect = by(wayDirect, t.down), by(wayDirect, t.up)
	return r
}

func timeOf(t transfer) time.Duration { return t.took }

func median(moved []transfer, of func(transfer) time.Duration) time.Duration {
	list := make([]time.Duration, len(moved))
	for i, t := range moved {
		list[i] = of(t)
	}
	return percentile(list, 50)
}

func (t *transfers) speed(moved []transfer) speed {
	mebibytes := time.Duration(t.bytes / mebibyte)
	return speed{
		PerSecond: rate(uint64(mebibytes), median(moved, timeOf)),
		VMM:       ms(median(moved, func(t transfer) time.Duration { return t.vmm }) / mebibytes),
		Host:      ms(median(moved, func(t transfer) time.Duration { return t.host }) / mebibytes),
	}
}

func (l *latency) timing() *latencyTiming {
	t := &latencyTiming{Requests: len(l.took[wayDirect])}
	for _, way := range allWays {
		t.Ways = append(t.Ways, wayQuantiles{way, quantilesOf(l.took[way])})
	}
	p50 := func(way string) ms { return ms(percentile(l.took[way], 50)) }
	t.Added, t.ByAgent = p50(wayEndpoint)-p50(wayAgent), p50(wayAgent)-p50(wayDirect)
	return t
}

func quantilesOf(took []time.Duration) quantiles {
	return quantiles{P50: ms(percentile(took, 50)), P99: ms(percentile(took, 99))}
}

// rate is per second, to a tenth.
func rate(n uint64, in time.Duration) float64 {
	if in <= 0 {
		return 0
	}
	return float64(int64(float64(n)/in.Seconds()*10)) / 10
}

func (s *steady) timing() *steadyTiming {
	t := &steadyTiming{
		Rounds: s.rounds, Wanted: s.wanted, Round: quantilesOf(s.took), Requests: s.requests, Slowest: ms(s.slowest),
		Failed: len(s.failures), Failures: s.failures[:min(len(s.failures), maxErrors)], Messages: s.sent,
		Lost: s.arrived.Missing(s.sent), Repeated: s.arrived.Repeated, Damaged: s.arrived.Damaged,
		Forgot: len(s.forgot), Forgotten: s.forgot[:min(len(s.forgot), maxErrors)], Suspends: s.suspends, Wakes: s.wakes,
	}
	if s.broken != nil {
		t.Broken = s.broken.Error()
	}
	return t
}

// goals judges the data plane.
func (t *dataTiming) goals(add func(name, wanted, reached string, met bool)) {
	if r := t.Throughput; r != nil {
		least := func(name string, ratio *float64) {
			add(name, fmt.Sprintf("≥ %.4g × the guest dialled as the daemon dials", throughputGoal), orNothing(ratio, "%.2f ×"), ratio != nil && *ratio >= throughputGoal)
		}
		least("endpoint, download", r.DownloadRatio)
		least("endpoint, upload", r.UploadRatio)
	}
	if l := t.Latency; l != nil {
		add("endpoint, added to a small request, p50", fmt.Sprintf("≤ %.1f ms", ms(addedGoal).float()), fmt.Sprintf("%.2f ms", l.Added.float()), time.Duration(l.Added) <= addedGoal)
	}
	if s := t.WebSockets; s != nil {
		add(fmt.Sprintf("%d WebSockets over %d VMs", s.Sockets, s.VMs), "no message lost or wrong",
			fmt.Sprintf("%d of %d lost, %d wrong, %d sockets failed", s.Lost, 2*s.Sent, s.Wrong, s.Failed), s.Sent > 0 && s.Lost+s.Wrong == 0 && s.Failed == 0)
	}
	if v := t.Volley; v != nil {
		v.goals(add)
	}
	if s := t.Steady; s != nil {
		s.goals(add)
	}
}

func (v *volleyTiming) goals(add func(name, wanted, reached string, met bool)) {
	once := true
	for _, n := range v.Wakes {
		once = once && n == 1
	}
	name := fmt.Sprintf("%d requests to a suspended VM", v.Requests)
	add(name, "all answered", fmt.Sprintf("%d failed", v.Failed), v.Failed == 0)
	add("the same, wakes in each of the volleys", "1", strings.Trim(fmt.Sprint(v.Wakes), "[]"), once)
	add("the same, p50", fmt.Sprintf("≤ %.4g × one wake and the same awake", volleyGoal), orNothing(v.Ratio, "%.2f ×"), v.Ratio != nil && *v.Ratio <= volleyGoal)
}

func (s *steadyTiming) goals(add func(name, wanted, reached string, met bool)) {
	name := fmt.Sprintf("%d rounds of suspend and wake under traffic", s.Wanted)
	reached := fmt.Sprintf("%d made, %d of %d requests failed", s.Rounds, s.Failed, s.Requests)
	add(name, "no request lost", reached, s.Rounds == s.Wanted && s.Failed == 0 && s.Lost == 0 && s.Requests > 0)
	add("the same, messages to the app", "each once, no byte wrong", fmt.Sprintf("%d repeated or late, %d damaged", s.Repeated, s.Damaged), s.Repeated+s.Damaged == 0)
	add("the same, the guest's memory and disk", "as they were, each round", fmt.Sprintf("%d times not", s.Forgot), s.Rounds > 0 && s.Forgot == 0)
	add("the same, suspends and wakes in its events", fmt.Sprint(s.Wanted), fmt.Sprintf("%d and %d", s.Suspends, s.Wakes), s.Suspends == s.Wanted && s.Wakes == s.Wanted)
}
