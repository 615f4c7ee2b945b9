package main

import (
	"fmt"
	"time"
)

// The goals. They compare with what the same machine can do at best, so they hold on any machine.
const (
	launchGoal     = 1.25                   // times the floor, as wakes
	suspendGoal    = 2.0                    // times the floor,
	suspendMost    = 8 * mebibyte           // with at most so many dirty bytes
	burstGoal      = 20.0                   // times the floor of one launch, for the p95 of 20 at once on two cores
	rssGoal        = 80.0                   // MiB, of the idle daemon
	controlGoal    = 15 * time.Millisecond  // p99 of a call that starts no VM, at controlRate over 10,000 rows
	pageGoal       = 1.5                    // times a page over few rows: lists stay flat
	verbGoal       = 30 * time.Millisecond  // user time of a verb of the command line before its first byte goes out
	throughputGoal = 0.8                    // times the same without the endpoint
	addedGoal      = 500 * time.Microsecond // of the p50 of small requests
	volleyGoal     = 1.5                    // times one wake and the same volley to a VM that is awake
	cpuGoal        = 10 * time.Millisecond  // in 10 s, one tick of the kernel's clock: not measurable
)

// goal is one line of what must be reached.
type goal struct {
	Name    string `json:"name"`
	Wanted  string `json:"wanted"`
	Reached string `json:"reached"`
	Met     bool   `json:"met"`
}

// goals judges what was measured; what was skipped is not judged.
func goals(r result, b *bench) (list []goal) {
	add := func(name, wanted, reached string, met bool) { list = append(list, goal{name, wanted, reached, met}) }
	atMost := func(name string, ratio *float64, most float64) {
		if ratio != nil {
			add(name, fmt.Sprintf("≤ %.4g × the floor", most), fmt.Sprintf("%.2f ×", *ratio), *ratio <= most)
		}
	}
	if r.Launch != nil {
		atMost("launch → first 200, p50", r.Launch.Ratio, launchGoal)
		atMost("wake → first 200, p50", r.Wake.Ratio, launchGoal)
		if r.Suspend.Dirty <= suspendMost {
			atMost("suspend → SUSPENDED, p50", r.Suspend.Ratio, suspendGoal)
		}
	}
	if r.Burst != nil {
		name := fmt.Sprintf("%d launches at once", r.Burst.VMs)
		add(name, "all answer", fmt.Sprintf("%d failed", r.Burst.Failed), r.Burst.Failed == 0)
		atMost(name+", p95", r.Burst.Ratio, burstGoal)
	}
	if n := len(b.asleep.disk); n > 0 {
		excess := b.asleep.excess()
		add(fmt.Sprintf("disk of a suspended VM, worst of %d", n), "≤ 1.2 × dirty pages + 1 MiB", overUnder(excess), excess <= 0)
	}
	if b.imageBefore.allocated > 0 {
		reached := "shared by all, file unchanged"
		if !r.Memory.ImageShared {
			reached = "copied or changed"
		}
		add("the image's memory", "never copied per VM", reached, r.Memory.ImageShared)
	}
	if b.idle != nil {
		add("idle daemon, RSS", fmt.Sprintf("≤ %.0f MiB", rssGoal), fmt.Sprintf("%.1f MiB", r.Daemon.IdleRSS), r.Daemon.IdleRSS <= rssGoal)
		add(fmt.Sprintf("idle daemon with %d suspended VMs, CPU in 10 s", r.Daemon.SuspendedVMs),
			fmt.Sprintf("not measurable: ≤ %v", cpuGoal), r.Daemon.IdleCPU.String(), b.idle.cpu <= cpuGoal)
	}
	if c := r.Control; c != nil {
		add(fmt.Sprintf("%d calls/s over %d rows", c.Rate, c.Rows), "none fails", fmt.Sprintf("%d failed", c.Failed), c.Failed == 0)
		add("the same, p99", fmt.Sprintf("≤ %v", controlGoal), c.P99.String(), time.Duration(c.P99) <= controlGoal)
		page := func(list string, t pageTiming) {
			add("a page of "+list+", by one over few rows", fmt.Sprintf("≤ %.1f ×", pageGoal), orNothing(t.Ratio, "%.2f ×"), t.Ratio != nil && *t.Ratio <= pageGoal)
		}
		page("ListMicrovms", c.VMPages)
		page("ListMicrovmImages", c.ImagePages)
		add("dormouse ps, user time in all, p50", fmt.Sprintf("≤ %v", verbGoal), r.Verb.String(), time.Duration(*r.Verb) <= verbGoal)
	}
	if r.Data != nil {
		r.Data.goals(add)
	}
	return list
}

func overUnder(excess int64) string {
	if excess > 0 {
		return fmt.Sprintf("%d KiB too much", excess>>10)
	}
	return fmt.Sprintf("%d KiB below", -excess>>10)
}
