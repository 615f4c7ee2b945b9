package spans

import (
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/spans/spanstest"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// recorded is what a collector gets of what a function records.
func recorded(t *testing.T, share float64, record func(*Recorder)) map[string]*trace.Span {
	t.Helper()
	c := new(spanstest.Collector)
	server := httptest.NewServer(c)
	defer server.Close()
	r, err := Open(t.Context(), Config{Endpoint: server.URL, Version: "v1", Requests: share})
	require.NoError(t, err)
	record(r)
	require.NoError(t, r.Close())
	spans := map[string]*trace.Span{}
	for _, s := range c.Spans() {
		require.Nil(t, spans[s.Name], "%s twice", s.Name)
		spans[s.Name] = s
	}
	return spans
}

const requestID = "5b0c8ad6-7c53-4d5e-8f0c-9b1d2e3f4a5b"

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func launch(requestID string) store.Event {
	return store.Event{
		Subject: "microvm-1", Operation: "launch", To: store.VMRunning, Cause: "api", RequestID: requestID, At: noon,
		Phases: []store.Phase{{Name: "queue", Duration: time.Millisecond}, {Name: "load", Duration: 2 * time.Millisecond}},
	}
}

func TestALaunchIsAChildOfTheCallThatBeganIt(t *testing.T) {
	spans := recorded(t, 0, func(r *Recorder) {
		r.Event(launch(requestID)) // whichever comes first
		r.Call(awsapi.Call{RequestID: requestID, Operation: "RunMicrovm", Status: 200, Began: noon.Add(-time.Second), Ended: noon})
	})
	require.Len(t, spans, 4)
	call, event, queue, load := spans["RunMicrovm"], spans["launch"], spans["launch queue"], spans["launch load"]
	require.Equal(t, "5b0c8ad67c534d5e8f0c9b1d2e3f4a5b", hex.EncodeToString(call.TraceId))
	require.Empty(t, call.ParentSpanId)
	require.Equal(t, call.SpanId, event.ParentSpanId)
	require.Equal(t, event.SpanId, load.ParentSpanId)
	require.Equal(t, call.TraceId, load.TraceId)
	require.EqualValues(t, noon.Add(-3*time.Millisecond).UnixNano(), event.StartTimeUnixNano)
	require.EqualValues(t, noon.UnixNano(), event.EndTimeUnixNano)
	require.Equal(t, event.StartTimeUnixNano, queue.StartTimeUnixNano)
	require.Equal(t, queue.EndTimeUnixNano, load.StartTimeUnixNano)
	require.Equal(t, event.EndTimeUnixNano, load.EndTimeUnixNano)
}

func TestWhatNoCallBeganIsARoot(t *testing.T) {
	spans := recorded(t, 0, func(r *Recorder) {
		r.Event(launch(""))
		r.Event(store.Event{Subject: "microvm-1", Operation: "terminate", To: store.VMTerminated})
	})
	require.Len(t, spans, 3, "an event without phases has none")
	require.Empty(t, spans["launch"].ParentSpanId)
}

func TestAFailedBuildIsAnError(t *testing.T) {
	e := launch("")
	e.Subject, e.Operation, e.To, e.Detail = "image", "build 2.0", store.ImageUpdateFailed, "why"
	spans := recorded(t, 0, func(r *Recorder) { r.Event(e) })
	require.Equal(t, trace.Status_STATUS_CODE_ERROR, spans["build"].Status.Code)
	require.Equal(t, "why", spans["build"].Status.Message)
}

func request(parent string) endpoint.Observed {
	r := httptest.NewRequest(http.MethodGet, "/secret?token=x", nil)
	if parent != "" {
		r.Header.Set("Traceparent", parent)
	}
	return endpoint.Observed{Request: r, RequestID: requestID, MicroVM: "microvm-1", Status: 502, Code: "MICROVM_SUSPENDED", Began: noon, Ended: noon.Add(time.Second)}
}

func TestAClientsTraceGoesOnIfItSaysSo(t *testing.T) {
	const head = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
	spans := recorded(t, 0, func(r *Recorder) { r.Request(request(head + "01")) })
	s := spans["endpoint request"]
	require.Equal(t, "b7ad6b7169203331", hex.EncodeToString(s.ParentSpanId))
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", hex.EncodeToString(s.TraceId))
	require.Equal(t, trace.Status_STATUS_CODE_ERROR, s.Status.Code)
	require.NotContains(t, s.String(), "secret", "paths are the app's business")
	require.Empty(t, recorded(t, 1, func(r *Recorder) { r.Request(request(head + "00")) }), "its client does not want it")
}

func TestRequestsWithoutATraceAreTakenByChance(t *testing.T) {
	for _, parent := range []string{"", "nonsense", "00-00000000000000000000000000000000-b7ad6b7169203331-01"} {
		require.Len(t, recorded(t, 1, func(r *Recorder) { r.Request(request(parent)) }), 1)
		require.Empty(t, recorded(t, 0, func(r *Recorder) { r.Request(request(parent)) }))
	}
}

func TestTracesAreWantedByFlagOrVariable(t *testing.T) {
	require.True(t, Config{Endpoint: "http://x"}.Wanted())
	require.False(t, Config{}.Wanted())
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x")
	require.True(t, Config{}.Wanted())
	_, err := Open(t.Context(), Config{Endpoint: "x"})
	require.Error(t, err)
}

// BenchmarkRequestNotTraced is what tracing costs a request that is not traced.
func BenchmarkRequestNotTraced(b *testing.B) {
	r, err := Open(b.Context(), Config{Endpoint: "http://127.0.0.1:1", Requests: 0.0001})
	require.NoError(b, err)
	o := request("")
	for b.Loop() {
		r.Request(o)
	}
}
