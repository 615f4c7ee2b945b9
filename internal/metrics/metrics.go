// Package metrics tells Prometheus what the daemon does, by metrics of which docs/observability.md has a table.
package metrics

import (
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/logship"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Buckets in seconds. Operations of microVMs take milliseconds to a minute (a hook), builds seconds to an hour.
var (
	fast = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	slow = []float64{.1, .5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1800, 3600}
)

// Set is all metrics. No label has as many values as there are accounts, images or microVMs. Its methods are cheap, and safe for concurrent use.
type Set struct {
	registry *prometheus.Registry

	operations, phases  *prometheus.HistogramVec
	changes             *prometheus.CounterVec
	builds, buildPhases *prometheus.HistogramVec
	calls               *prometheus.HistogramVec
	callCodes           *prometheus.CounterVec
	refusals            *prometheus.CounterVec
	answers             [len(classes)]prometheus.Observer // by class
}

// classes are the values of the label class, by the first digit of the status; the first is that of no answer.
var classes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// Sources are what is looked at when somebody scrapes.
type Sources struct {
	Survey   func() microvm.Survey
	Shipped  *logship.Shipper
	Rejected func() int64 // events that log groups refused
	Clock    clockwork.Clock
}

// New makes the metrics of a daemon of a version.
func New(version string, from Sources) *Set {
	s := &Set{registry: prometheus.NewRegistry()}
	s.operations = s.histogram("microvm_operation_seconds", "Time of launches, suspends and resumes that succeeded.", fast, "operation")
	s.phases = s.histogram("microvm_phase_seconds", "Time of the phases of launches, suspends and resumes.", fast, "operation", "phase")
	s.changes = s.counter("microvm_changes_total", "Changes of state, by operation, new state and cause.", "operation", "state", "cause")
	s.builds = s.histogram("image_build_seconds", "Time of image builds, without the wait for others.", slow, "result")
	s.buildPhases = s.histogram("image_build_phase_seconds", "Time of the phases of image builds.", slow, "phase")
	s.calls = s.histogram("api_call_seconds", "Time of API calls.", fast, "operation")
	s.callCodes = s.counter("api_calls_total", "API calls, by what they were answered with.", "operation", "code")
	s.refusals = s.counter("endpoint_refusals_total", "Requests that the endpoint answered itself, by x-aws-proxy-error.", "code")
	answers := s.histogram("endpoint_answer_seconds", "Time from a request at an endpoint to the head of its answer, by status class.", fast, "class")
	for i, class := range classes {
		s.answers[i] = answers.WithLabelValues(class)
	}
	s.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(version), newSurveyor(from), newLogs(from),
	)
	return s
}

const namespace = "dormouse"

func (s *Set) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	s.registry.MustRegister(h)
	return h
}

func (s *Set) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	s.registry.MustRegister(c)
	return c
}

func buildInfo(version string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "What runs; always 1.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	}, func() float64 { return 1 })
}

// Handler answers scrapes.
func (s *Set) Handler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: scrapeLimit})
}

// scrapeLimit bounds the answer to a scrape.
const scrapeLimit = 10 * time.Second

// Event counts what has happened to an image or a microVM.
func (s *Set) Event(e store.Event) {
	if strings.HasPrefix(e.Subject, "microvm-") {
		s.microVM(e)
		return
	}
	if strings.HasPrefix(e.Operation, "build ") && len(e.Phases) > 0 {
		s.build(e)
	}
}

func (s *Set) microVM(e store.Event) {
	if e.To != "" { // else none has changed: something was refused
		s.changes.WithLabelValues(e.Operation, e.To, e.Cause).Inc()
	}
	if len(e.Phases) == 0 {
		return
	}
	var total time.Duration
	for _, phase := range e.Phases {
		total += phase.Duration
		s.phases.WithLabelValues(e.Operation, phase.Name).Observe(phase.Duration.Seconds())
	}
	s.operations.WithLabelValues(e.Operation).Observe(total.Seconds())
}

func (s *Set) build(e store.Event) {
	result := "succeeded"
	if strings.HasSuffix(e.To, "_FAILED") {
		result = "failed"
	}
	var total time.Duration
	for _, phase := range e.Phases {
		s.buildPhases.WithLabelValues(phase.Name).Observe(phase.Duration.Seconds())
		if phase.Name != "queue" {
			total += phase.Duration
		}
	}
	s.builds.WithLabelValues(result).Observe(total.Seconds())
}

// Call counts a call of the API.
func (s *Set) Call(c awsapi.Call) {
	code := string(c.Code)
	if code == "" {
		code = "OK"
	}
	s.callCodes.WithLabelValues(c.Operation, code).Inc()
	s.calls.WithLabelValues(c.Operation).Observe(c.Ended.Sub(c.Began).Seconds())
}

// Request counts a request at an endpoint.
func (s *Set) Request(o endpoint.Observed) {
	answered := o.Answered
	if answered.IsZero() {
		answered = o.Ended
	}
	class := o.Status / 100
	if class < 0 || class >= len(classes) {
		class = 0
	}
	s.answers[class].Observe(answered.Sub(o.Began).Seconds())
	if o.Code != "" {
		s.refusals.WithLabelValues(o.Code).Inc()
	}
}
