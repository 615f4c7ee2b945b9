package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func openWatch(t *testing.T, o observability) (*watch, *store.Store, error) {
	t.Helper()
	dir := t.TempDir()
	records, err := store.Open(t.Context(), filepath.Join(dir, databaseFile), store.Quotas{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, records.Close()) })
	w, err := o.open(t.Context(), dir, records, logfile.NewFolder(dir, 0), clockwork.NewRealClock(), slog.New(slog.DiscardHandler))
	return w, records, err
}

func TestFlagsAboutWhereLogsAndTracesGoAreChecked(t *testing.T) {
	for _, o := range []observability{{cloudWatch: "logs.example.com"}, {cloudWatch: "::"}, {otlp: "collector"}, {listenMetrics: "nowhere"}, {traceRequests: 2}, {traceRequests: -0.1}} {
		_, _, err := openWatch(t, o)
		require.Error(t, err, "%+v", o)
	}
}

func TestWithoutFlagsNothingIsWatched(t *testing.T) {
	w, _, err := openWatch(t, observability{})
	require.NoError(t, err)
	require.Nil(t, w.requests())
	w.survey(nil)
	require.Nil(t, w.metrics)
	require.Nil(t, w.traces)
}

func TestWhatIsRecordedIsScraped(t *testing.T) {
	w, records, err := openWatch(t, observability{listenMetrics: "127.0.0.1:0"})
	require.NoError(t, err)
	w.survey(func() microvm.Survey { return microvm.Survey{} })
	watched := w.records(records)
	phases := []store.Phase{{Name: "load", Duration: time.Second}}
	require.NoError(t, watched.AddEvent(t.Context(), store.Event{Subject: "microvm-1", Operation: "resume", To: store.VMRunning, Phases: phases}))
	require.ErrorIs(t, watched.TransitionMicroVM(t.Context(), store.MicroVM{ID: "microvm-1"}, store.VMRunning, store.Event{Subject: "microvm-1", Operation: "suspend"}), store.ErrNotFound)
	require.ErrorIs(t, watched.ChangeImage(t.Context(), store.ImageChange{ImageID: "none", To: store.ImageCreated}), store.ErrNotFound)
	w.requests()(endpoint.Observed{Status: 200})

	var servers errgroup.Group
	finish := w.run(t.Context(), servers.Go)
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+w.listener.Addr().String()+"/metrics", http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Contains(t, string(text), `dormouse_microvm_phase_seconds_count{operation="resume",phase="load"} 1`)
	require.Contains(t, string(text), `dormouse_endpoint_answer_seconds_count{class="2xx"} 1`)
	require.NotContains(t, string(text), `operation="suspend"`, "what was not recorded has not happened")
	finish()
	require.NoError(t, servers.Wait())
}
