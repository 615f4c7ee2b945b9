package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dormouse-dev/dormouse/bench/floor"
)

const mebibyte = 1 << 20

// result is bench/latest.json. What was skipped is left out.
type result struct {
	Launch  *timing        `json:"launch,omitempty"`
	Wake    *timing        `json:"wake,omitempty"`
	Suspend *suspendTiming `json:"suspend,omitempty"`
	Hooked  *hookedTiming  `json:"with_hooks,omitempty"`
	Burst   *burstTiming   `json:"burst20,omitempty"`
	Memory  memoryUse      `json:"memory"`
	Daemon  daemonUse      `json:"daemon"`
	Control *controlTiming `json:"control_plane,omitempty"`
	Verb    *ms            `json:"cli_verb_user_time_p50_ms,omitempty"`
	Data    *dataTiming    `json:"data_plane,omitempty"`
	Goals   []goal         `json:"goals"`
	Machine machine        `json:"machine"`
}

// timing compares an operation with its floor. Times are milliseconds.
type timing struct {
	P50      ms         `json:"p50_ms"`
	P95      ms         `json:"p95_ms"`
	FloorP50 ms         `json:"floor_p50_ms"`
	FloorP95 ms         `json:"floor_p95_ms"`
	Ratio    *float64   `json:"ratio,omitempty"` // of the p50s
	Rounds   int        `json:"rounds"`
	Phases   []phaseRow `json:"phases"`
	// StartedFloor is the floor without the start of QEMU, which the product does ahead of time.
	StartedFloor *ms `json:"started_floor_p50_ms,omitempty"`
}

type suspendTiming struct {
	timing
	Dirty      int64 `json:"dirty_bytes_p50"`
	FloorDirty int64 `json:"floor_dirty_bytes_p50"`
}

// hookedTiming is the same with the app's run, resume and suspend hooks called. How fast they are is
// up to the app, and the floor calls none, so no goal is set for it.
type hookedTiming struct {
	Launch  *timing `json:"launch"`
	Wake    *timing `json:"wake"`
	Suspend *timing `json:"suspend"`
}

type burstTiming struct {
	P50    ms       `json:"p50_ms"`
	P95    ms       `json:"p95_ms"`
	Failed int      `json:"failed"`
	VMs    int      `json:"vms"`
	Ratio  *float64 `json:"p95_by_floor_launch_p50,omitempty"`
	Errors []string `json:"errors,omitempty"`
}

type memoryUse struct {
	PSS            float64  `json:"pss_mib_per_vm"`
	PSSAlone       float64  `json:"pss_mib_of_a_lone_vm"`
	PSSVMs         int      `json:"pss_vms"`
	SuspendedBytes int64    `json:"suspended_bytes_per_vm"` // p50, as the next
	DirtyBytes     int64    `json:"dirty_bytes_per_vm"`
	SuspendedVMs   int      `json:"suspended_vms"`
	DiskByDirty    *float64 `json:"suspended_by_dirty,omitempty"`
	PrivateBytes   int64    `json:"private_guest_bytes_per_running_vm"` // p50
	ImageBytes     int64    `json:"image_memory_bytes"`
	ImageShared    bool     `json:"image_memory_shared"`
}

type daemonUse struct {
	IdleRSS      float64 `json:"idle_rss_mib"`
	StartRSS     float64 `json:"start_rss_mib"`
	IdleCPU      ms      `json:"idle_cpu_ms_in_10_s"`
	SuspendedVMs int     `json:"suspended_vms"`
}

// controlTiming is the control plane over many rows. Times are milliseconds; pages are p50s.
type controlTiming struct {
	Rows       int           `json:"rows"` // images, and as many microVMs
	Rate       int           `json:"offered_per_s"`
	Calls      int           `json:"calls"`
	Failed     int           `json:"failed"`
	P50        ms            `json:"p50_ms"`
	P95        ms            `json:"p95_ms"`
	P99        ms            `json:"p99_ms"`
	Slowest    map[string]ms `json:"slowest_ms_by_call"`
	FewRows    int           `json:"few_rows"`
	VMPages    pageTiming    `json:"list_microvms_page"`
	ImagePages pageTiming    `json:"list_images_page"`
	Errors     []string      `json:"errors,omitempty"`
}

// pageTiming compares a page of a list with the same over few rows.
type pageTiming struct {
	P50   ms       `json:"p50_ms"`
	Few   ms       `json:"few_rows_p50_ms"`
	Ratio *float64 `json:"ratio"`
}

func comparePages(many, few []time.Duration) pageTiming {
	t := pageTiming{P50: ms(percentile(many, 50)), Few: ms(percentile(few, 50))}
	t.Ratio = ratio(t.P50.float(), t.Few.float())
	return t
}

func (c *controlPlane) timing() *controlTiming {
	t := &controlTiming{
		Rows: c.rows, Rate: controlRate, Calls: len(c.took), Failed: len(c.failed),
		P50: ms(percentile(c.took, 50)), P95: ms(percentile(c.took, 95)), P99: ms(percentile(c.took, 99)),
		Slowest: map[string]ms{}, FewRows: fewRows,
		VMPages: comparePages(c.many.microVMs, c.few.microVMs), ImagePages: comparePages(c.many.images, c.few.images),
	}
	for call, took := range c.slowest {
		t.Slowest[call] = ms(took)
	}
	t.Errors = tellErrors(c.failed)
	return t
}

// maxErrors is how many errors a report tells.
const maxErrors = 10

func (b *bench) summarize() result {
	r := result{Machine: b.machine, Daemon: daemonUse{StartRSS: mib(b.startRSS)}}
	if len(b.ours) > 0 {
		plain, hooked := compareRounds(b.ours, b.bare), compareRounds(b.oursHooked, b.bare)
		r.Launch, r.Wake, r.Hooked = plain.Launch, plain.Wake, &hooked
		r.Suspend = &suspendTiming{timing: *plain.Suspend, Dirty: medianDirty(b.ours), FloorDirty: medianFloorDirty(b.bare)}
		r.Launch.StartedFloor = medianOf(floors(b.bare, func(s floor.Sample) time.Duration { return s.Launch - s.LaunchStart }))
		r.Wake.StartedFloor = medianOf(floors(b.bare, func(s floor.Sample) time.Duration { return s.Wake - s.WakeStart }))
	}
	if b.crowd != nil {
		r.Burst = &burstTiming{
			P50: ms(percentile(b.crowd.times, 50)), P95: ms(percentile(b.crowd.times, 95)),
			VMs: len(b.crowd.times) + len(b.crowd.failed), Failed: len(b.crowd.failed),
		}
		r.Burst.Errors = tellErrors(b.crowd.failed)
		if r.Launch != nil {
			r.Burst.Ratio = ratio(r.Burst.P95.float(), r.Launch.FloorP50.float())
		}
	}
	r.Memory = b.memoryUse()
	if b.idle != nil {
		r.Daemon.IdleRSS, r.Daemon.IdleCPU, r.Daemon.SuspendedVMs = mib(b.idle.rss), ms(b.idle.cpu), len(b.asleep.disk)
	}
	if b.control != nil {
		r.Control, r.Verb = b.control.timing(), medianOf(b.verb)
	}
	if b.data != nil {
		r.Data = b.data.timing()
	}
	r.Goals = goals(r, b)
	return r
}

func (b *bench) memoryUse() memoryUse {
	m := memoryUse{
		PSSAlone: mib(percentile(b.alone.pss, 50)), PSS: mib(percentile(b.together.pss, 50)), PSSVMs: len(b.together.pss),
		PrivateBytes: percentile(append(b.alone.private, b.together.private...), 50),
		ImageBytes:   b.imageBefore.allocated,
		ImageShared:  b.imageAfter == b.imageBefore && !b.alone.writable && !b.together.writable,
	}
	if m.PSSVMs == 0 { // the burst was skipped
		m.PSS, m.PSSVMs = m.PSSAlone, len(b.alone.pss)
	}
	m.SuspendedBytes, m.DirtyBytes, m.SuspendedVMs = percentile(b.asleep.disk, 50), percentile(b.asleep.dirty, 50), len(b.asleep.disk)
	m.DiskByDirty = ratio(float64(m.SuspendedBytes), float64(m.DirtyBytes))
	return m
}

func compareRounds(ours []round, bare []floor.Sample) hookedTiming {
	return hookedTiming{
		Launch:  compare(ourOperations(ours, func(o round) operation { return o.launch }), floors(bare, func(s floor.Sample) time.Duration { return s.Launch })),
		Wake:    compare(ourOperations(ours, func(o round) operation { return o.wake }), floors(bare, func(s floor.Sample) time.Duration { return s.Wake })),
		Suspend: compare(ourOperations(ours, func(o round) operation { return o.suspend }), floors(bare, func(s floor.Sample) time.Duration { return s.Suspend })),
	}
}

func compare(ours []operation, bare []time.Duration) *timing {
	totals := make([]time.Duration, len(ours))
	for i, o := range ours {
		totals[i] = o.total
	}
	t := &timing{
		P50: ms(percentile(totals, 50)), P95: ms(percentile(totals, 95)),
		FloorP50: ms(percentile(bare, 50)), FloorP95: ms(percentile(bare, 95)),
		Rounds: len(ours), Phases: phaseTable(ours),
	}
	t.Ratio = ratio(t.P50.float(), t.FloorP50.float())
	return t
}

func ourOperations(rounds []round, of func(round) operation) []operation {
	list := make([]operation, len(rounds))
	for i, r := range rounds {
		list[i] = of(r)
	}
	return list
}

func floors(samples []floor.Sample, of func(floor.Sample) time.Duration) []time.Duration {
	list := make([]time.Duration, len(samples))
	for i, s := range samples {
		list[i] = of(s)
	}
	return list
}

func medianOf(times []time.Duration) *ms {
	median := ms(percentile(times, 50))
	return &median
}

func medianDirty(rounds []round) int64 {
	dirty := make([]int64, len(rounds))
	for i, r := range rounds {
		dirty[i] = r.dirty
	}
	return percentile(dirty, 50)
}

func medianFloorDirty(samples []floor.Sample) int64 {
	dirty := make([]int64, len(samples))
	for i, s := range samples {
		dirty[i] = s.Dirty
	}
	return percentile(dirty, 50)
}

// tellErrors is the first of some errors.
func tellErrors(errs []error) (told []string) {
	for _, err := range errs[:min(len(errs), maxErrors)] {
		told = append(told, err.Error())
	}
	return told
}

// printErrors shows the first of some errors.
func printErrors(errs []error) {
	for _, text := range tellErrors(errs) {
		fmt.Println("  failed:", text)
	}
}

func mib(bytes int64) float64 { return float64(bytes*10/mebibyte) / 10 }

// writeFiles writes the files that are wanted.
func (r result) writeFiles(o options) error {
	if o.out != "" {
		if err := r.write(o.out); err != nil {
			return err
		}
	}
	if o.report == "" {
		return nil
	}
	tables, err := r.markdown()
	if err != nil {
		return err
	}
	return replaceFile(o.report, tables)
}

// write puts the result where it belongs, whole or not at all.
func (r result) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(text, '\n'))
}

func replaceFile(path string, content []byte) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := os.WriteFile(temporary, content, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
