package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dormouse-dev/dormouse/internal/logship"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// states are all states that a microVM may have; one that none has is 0, not missing.
var states = []string{store.VMPending, store.VMRunning, store.VMSuspending, store.VMSuspended, store.VMTerminating, store.VMTerminated}

func described(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// surveyor looks at all microVMs when somebody scrapes.
type surveyor struct {
	from                                                     Sources
	memory                                                   *memoryMeter
	vms, parked, vmms, measured, bytes, frames, egress, deny *prometheus.Desc
}

func newSurveyor(from Sources) *surveyor {
	return &surveyor{
		from: from, memory: &memoryMeter{read: readRollup, clock: from.Clock},
		vms:      described("microvms", "MicroVMs by state; those that ended more than a minute ago are not counted.", "state"),
		parked:   described("endpoint_parked_requests", "Requests that wait for their microVM."),
		vmms:     described("vmm_processes", "VMM processes of microVMs."),
		measured: described("vmm_memory_bytes", "Memory of the VMM processes of microVMs: of their own, or shared with others through an image.", "kind"),
		frames:   described("network_frames_total", "Frames to (in) and from (out) microVMs.", "direction"),
		bytes:    described("network_bytes_total", "Bytes of frames to (in) and from (out) microVMs.", "direction"),
		egress:   described("egress_bytes_total", "Payload of the connections that microVMs made: sent and received by them.", "direction"),
		deny:     described("egress_denials_total", "Destinations that policy refused to microVMs."),
	}
}

func (s *surveyor) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.vms, s.parked, s.vmms, s.measured, s.frames, s.bytes, s.egress, s.deny} {
		to <- d
	}
}

func (s *surveyor) Collect(to chan<- prometheus.Metric) {
	survey := s.from.Survey()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	for _, state := range states {
		gauge(s.vms, float64(survey.States[state]), state)
	}
	gauge(s.parked, float64(survey.Parked))
	gauge(s.vmms, float64(len(survey.VMMs)))
	memory := s.memory.of(survey.VMMs)
	gauge(s.measured, float64(memory.private), "private")
	gauge(s.measured, float64(memory.shared), "shared")
	n := survey.Network
	counter(s.frames, n.FramesIn, "in")
	counter(s.frames, n.FramesOut, "out")
	counter(s.bytes, n.BytesIn, "in")
	counter(s.bytes, n.BytesOut, "out")
	counter(s.egress, n.EgressSent, "sent")
	counter(s.egress, n.EgressReceived, "received")
	counter(s.deny, n.Denied)
}

// logs tells what becomes of lines for log groups.
type logs struct {
	shipped  *logship.Shipper
	rejected func() int64

	sent, failures, lost, refused, waiting *prometheus.Desc
}

func newLogs(from Sources) *logs {
	return &logs{
		shipped: from.Shipped, rejected: from.Rejected,
		sent:     described("log_lines_sent_total", "Lines that were sent to log groups."),
		failures: described("log_send_failures_total", "Tries to send to a log group that failed, and are repeated."),
		lost:     described("log_lost_bytes_total", "Bytes of logs that were overwritten before they could be sent."),
		refused:  described("log_events_rejected_total", "Events that a log group has refused for what they are, and that were given up."),
		waiting:  described("log_sources_waiting", "Logs of microVMs and builds that have something to send."),
	}
}

func (l *logs) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{l.sent, l.failures, l.lost, l.refused, l.waiting} {
		to <- d
	}
}

func (l *logs) Collect(to chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, value int64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
	}
	counter(l.sent, l.shipped.Counts.Sent.Load())
	counter(l.failures, l.shipped.Counts.Failures.Load())
	counter(l.lost, l.shipped.Counts.Lost.Load())
	counter(l.refused, l.rejected())
	to <- prometheus.MustNewConstMetric(l.waiting, prometheus.GaugeValue, float64(l.shipped.Waiting()))
}
