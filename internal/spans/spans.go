// Package spans tells an OpenTelemetry collector what the daemon does: API calls and what they began, the phases of launches, suspends, resumes and builds, and requests at endpoints.
package spans

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Variables of OpenTelemetry that say where traces go; its other ones hold too.
var endpointVariables = []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}

// Config is where traces go.
type Config struct {
	Endpoint string // URL of a collector that takes OTLP over HTTP; "" is what the environment says
	Version  string
	// Requests is which share of the requests at endpoints is traced, 0 to 1, of those whose client does not trace.
	// A client that does decides.
	Requests float64
}

// Wanted tells whether traces go anywhere.
func (c Config) Wanted() bool {
	for _, name := range endpointVariables {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return c.Endpoint != ""
}

// Recorder makes spans of what it is told after the fact, and sends them by and by. What the collector does not take
// in time is dropped. It is safe for concurrent use.
type Recorder struct {
	provider *trace.TracerProvider
	tracer   api.Tracer
	limit    uint64 // a random number up to it has a request traced
	always   bool
}

// Open makes a Recorder. It connects to nothing yet.
func Open(ctx context.Context, c Config) (*Recorder, error) {
	var options []otlptracehttp.Option
	if c.Endpoint != "" {
		target, err := url.Parse(c.Endpoint)
		if err != nil || target.Host == "" {
			return nil, fmt.Errorf("%q is not the URL of a collector", c.Endpoint)
		}
		options = append(options, otlptracehttp.WithEndpointURL(target.JoinPath("v1/traces").String()))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "dormouse"), attribute.String("service.version", c.Version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe this service in traces: %w", err)
	}
	provider := trace.NewTracerProvider(
		trace.WithBatcher(exporter), trace.WithResource(about), trace.WithIDGenerator(givenIDs{}),
		trace.WithSampler(trace.ParentBased(trace.AlwaysSample())),
	)
	share := min(max(c.Requests, 0), 1)
	return &Recorder{
		provider: provider, tracer: provider.Tracer("github.com/dormouse-dev/dormouse"),
		limit: uint64(share * math.MaxUint32), always: share == 1,
	}, nil
}

// flushLimit bounds the last sending of traces.
const flushLimit = 3 * time.Second

// Close sends what there is, within a short time.
func (r *Recorder) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
	defer cancel()
	return r.provider.Shutdown(ctx)
}

// Call records a call of the API. Its trace has the request id for an id, by which the events it causes find it.
func (r *Recorder) Call(c awsapi.Call) {
	ctx := context.Background()
	if of, ok := spanOf(c.RequestID); ok {
		ctx = context.WithValue(ctx, idsKey{}, of)
	}
	_, span := r.tracer.Start(ctx, c.Operation, api.WithSpanKind(api.SpanKindServer), api.WithTimestamp(c.Began), api.WithAttributes(
		attribute.String("rpc.system", "aws-api"), attribute.String("rpc.method", c.Operation), attribute.String("aws.request_id", c.RequestID),
		attribute.String("dormouse.account", c.AccountID), attribute.Int("http.response.status_code", c.Status)))
	if c.Code != "" {
		span.SetAttributes(attribute.String("error.type", string(c.Code)))
	}
	if c.Status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, string(c.Code))
	}
	span.End(api.WithTimestamp(c.Ended))
}

// Event records what an image or a microVM has gone through, if it has phases: they ended one after the other when
// the event happened.
func (r *Recorder) Event(e store.Event) {
	if len(e.Phases) == 0 {
		return
	}
	began := e.At
	for _, phase := range e.Phases {
		began = began.Add(-phase.Duration)
	}
	ctx := context.Background()
	if of, ok := spanOf(e.RequestID); ok {
		ctx = api.ContextWithRemoteSpanContext(ctx, of)
	}
	subject := attribute.String("dormouse.image", e.Subject)
	if strings.HasPrefix(e.Subject, "microvm-") {
		subject = attribute.String("dormouse.microvm", e.Subject)
	}
	name, _, _ := strings.Cut(e.Operation, " ") // without the version of a build
	ctx, span := r.tracer.Start(ctx, name, api.WithTimestamp(began), api.WithAttributes(subject,
		attribute.String("dormouse.operation", e.Operation), attribute.String("dormouse.cause", e.Cause), attribute.String("dormouse.state", e.To)))
	for _, phase := range e.Phases {
		_, part := r.tracer.Start(ctx, name+" "+phase.Name, api.WithTimestamp(began))
		began = began.Add(phase.Duration)
		part.End(api.WithTimestamp(began))
	}
	if strings.HasSuffix(e.To, "_FAILED") {
		span.SetStatus(codes.Error, e.Detail)
	}
	span.End(api.WithTimestamp(e.At))
}

// Request records a request at an endpoint, or not. A trace that its client has begun goes on.
func (r *Recorder) Request(o endpoint.Observed) {
	ctx := context.Background()
	if o.Request.Header.Get("Traceparent") != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(o.Request.Header))
	}
	if !api.SpanContextFromContext(ctx).IsValid() && !r.takes() {
		return
	}
	_, span := r.tracer.Start(ctx, "endpoint request", api.WithSpanKind(api.SpanKindServer), api.WithTimestamp(o.Began), api.WithAttributes(
		attribute.String("http.request.method", method(o.Request.Method)), attribute.String("dormouse.request_id", o.RequestID),
		attribute.String("dormouse.microvm", o.MicroVM), attribute.Int("http.response.status_code", o.Status)))
	if o.Code != "" {
		span.SetAttributes(attribute.String("error.type", o.Code))
		span.SetStatus(codes.Error, o.Code)
	}
	if !o.Answered.IsZero() {
		span.AddEvent("answered", api.WithTimestamp(o.Answered))
	}
	span.End(api.WithTimestamp(o.Ended))
}

// method keeps what a client makes up out of traces.
func method(name string) string {
	switch name {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return name
	}
	return "_OTHER"
}

// takes decides about a request whose client does not trace.
func (r *Recorder) takes() bool {
	return r.always || r.limit > 0 && uint64(rand.Uint32()) < r.limit
}

// spanOf is the span of an API call, whose ids are made of the request's.
func spanOf(requestID string) (api.SpanContext, bool) {
	id, err := uuid.Parse(requestID)
	if err != nil {
		return api.SpanContext{}, false
	}
	return api.NewSpanContext(api.SpanContextConfig{
		TraceID: api.TraceID(id), SpanID: api.SpanID(id[8:]), TraceFlags: api.FlagsSampled, Remote: true,
	}), true
}

type idsKey struct{}

// givenIDs makes random ids where the context has none.
type givenIDs struct{}

func (givenIDs) NewIDs(ctx context.Context) (api.TraceID, api.SpanID) {
	if of, ok := ctx.Value(idsKey{}).(api.SpanContext); ok {
		return of.TraceID(), of.SpanID()
	}
	var id api.TraceID
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64()|1) // zero would be none
	return id, newSpanID()
}

func (givenIDs) NewSpanID(context.Context, api.TraceID) api.SpanID { return newSpanID() }

func newSpanID() (id api.SpanID) {
	binary.LittleEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

var _ trace.IDGenerator = givenIDs{}
