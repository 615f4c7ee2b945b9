package logship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// rig is a Shipper with what it works on.
type rig struct {
	t     *testing.T
	dir   string
	logs  *logfile.Folder
	clock *clockwork.FakeClock
	sink  *memory
	vms   map[string]store.MicroVM
	build store.Build
	*Shipper
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: t.TempDir(), clock: clockwork.NewFakeClock(), sink: &memory{}, vms: map[string]store.MicroVM{}}
	r.vms["microvm-1"] = store.MicroVM{ID: "microvm-1", AccountID: "1", ImageARN: "arn:aws:lambda:r:000000000001:microvm-image:app", ImageVersion: "1.0", StartedAt: r.clock.Now()}
	r.restart()
	return r
}

// restart makes another daemon's Shipper on the same files.
func (r *rig) restart() {
	r.logs = logfile.NewFolder(filepath.Join(r.dir, "microvms"), logfile.MinAppBytes)
	r.Shipper = New(Config{
		Logs: r.logs, BuildLog: func(id string) string { return filepath.Join(r.dir, id+".log") }, UnsentBuilds: filepath.Join(r.dir, "unsent"),
		Records: r, Local: r.sink, Clock: r.clock, Log: slog.New(slog.DiscardHandler),
	})
	r.logs.OnGrowth(r.Grown)
}

func (r *rig) MicroVM(_ context.Context, id string) (store.MicroVM, error) {
	if vm, ok := r.vms[id]; ok {
		return vm, nil
	}
	return store.MicroVM{}, store.ErrNotFound
}

func (r *rig) Build(_ context.Context, id string) (store.Build, error) {
	if r.build.ID != id {
		return store.Build{}, store.ErrNotFound
	}
	return r.build, nil
}

func (r *rig) Image(context.Context, string) (store.Image, error) {
	return store.Image{AccountID: "1", Name: "app"}, nil
}

func (r *rig) Version(context.Context, string, string) (store.ImageVersion, error) {
	return store.ImageVersion{Version: "1.0"}, nil
}

// wrote appends what an app wrote.
func (r *rig) wrote(a *logfile.App, position int64, text string) int64 {
	r.t.Helper()
	require.NoError(r.t, a.Append(position, "stdout", r.clock.Now(), []byte(text)))
	return position + int64(len(text))
}

// round does what Run does at one tick.
func (r *rig) round() {
	r.clock.Advance(every)
	var sending sync.WaitGroup
	r.sendDue(r.t.Context(), &sending, r.clock.Now())
	sending.Wait()
}

// memory is a Sink that keeps lines.
type memory struct {
	mu    sync.Mutex
	err   error
	room  int // lines that are taken before err; 0: err is for all
	most  int // lines at once
	lines []string
	to    []loggroup.Destination
}

func (m *memory) Put(_ context.Context, to loggroup.Destination, lines []logfile.Line) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil && (m.room == 0 || len(m.lines)+len(lines) > m.room) {
		return m.err
	}
	m.most = max(m.most, len(lines))
	m.to = append(m.to, to)
	for _, l := range lines {
		m.lines = append(m.lines, message(l))
	}
	return nil
}

func TestWhatAnAppWritesIsSentOnce(t *testing.T) {
	r := newRig(t)
	a := r.logs.App("microvm-1")
	next := r.wrote(a, 0, "one\ntwo\n")
	r.round()
	r.round()
	require.Zero(t, r.Waiting())
	r.wrote(a, next, "three\n")
	r.round()
	require.Equal(t, []string{"one", "two", "three"}, r.sink.lines)
	require.Equal(t, "/aws/lambda-microvms/app", r.sink.to[0].Group)
	require.EqualValues(t, 3, r.Counts.Sent.Load())
}

func TestALaterDaemonSendsWhatWasLeftAndNothingAgain(t *testing.T) {
	r := newRig(t)
	a := r.logs.App("microvm-1")
	next := r.wrote(a, 0, "one\n")
	r.round()
	r.wrote(a, next, "two\n") // and was killed
	r.restart()
	require.NoError(t, r.recall())
	r.round()
	require.Equal(t, []string{"one", "two"}, r.sink.lines)
}

func TestNothingIsLostWhileTheServiceIsAway(t *testing.T) {
	r := newRig(t)
	a := r.logs.App("microvm-1")
	r.sink.err = errors.New("away")
	var next int64
	for i := range 5 {
		next = r.wrote(a, next, fmt.Sprintf("line %d\n", i))
		r.round()
	}
	failures := r.Counts.Failures.Load()
	require.Positive(t, failures)
	require.Less(t, failures, int64(5), "it waits longer each time")
	r.sink.err = nil
	for range 10 {
		r.round()
	}
	require.Equal(t, []string{"line 0", "line 1", "line 2", "line 3", "line 4"}, r.sink.lines)
	require.Zero(t, r.Waiting())
}

func TestTheLastSendingTriesNothingThatFailsForAWhile(t *testing.T) {
	r := newRig(t)
	next := r.wrote(r.logs.App("microvm-1"), 0, "one\n")
	r.sink.err = errors.New("away")
	for range 5 {
		r.round()
	}
	failures := r.Counts.Failures.Load()
	r.Drain(t.Context())
	require.Equal(t, failures, r.Counts.Failures.Load())
	r.restart()
	r.sink.err = nil
	require.NoError(t, r.recall())
	r.round()
	r.wrote(r.logs.App("microvm-1"), next, "two\n")
	r.Drain(t.Context())
	require.Equal(t, []string{"one", "two"}, r.sink.lines)
}

func TestWhatWasOverwrittenBeforeItWasSentIsTold(t *testing.T) {
	r := newRig(t)
	a := r.logs.App("microvm-1")
	var next int64
	for range 20_000 {
		next = r.wrote(a, next, "some line or other\n")
	}
	r.sink.err = errors.New("away")
	r.round()
	r.round()
	r.sink.err = nil
	for range 3 {
		r.round()
	}
	var lost int64
	_, err := fmt.Sscanf(r.sink.lines[0], "[dormouse] [%d bytes of the log were overwritten before they could be sent here]", &lost)
	require.NoError(t, err)
	require.Positive(t, lost)
	require.Equal(t, lost, r.Counts.Lost.Load(), "however often it was tried")
}

func TestNothingIsSentWhereThePlaceCannotBeRemembered(t *testing.T) {
	r := newRig(t)
	r.wrote(r.logs.App("microvm-1"), 0, "one\n")
	place := r.logs.Path("microvm-1", placeName)
	require.NoError(t, os.Symlink("/dev/full", place))
	r.round()
	require.Empty(t, r.sink.lines, "it would be again each second")
	require.NoError(t, os.Remove(place))
	for range 3 {
		r.round()
	}
	require.Equal(t, []string{"one"}, r.sink.lines)
}

func TestTheBeginningOfALineWaitsForItsEndForAWhile(t *testing.T) {
	r := newRig(t)
	a := r.logs.App("microvm-1")
	next := r.wrote(a, 0, "one\nname? ")
	r.round()
	require.Equal(t, []string{"one"}, r.sink.lines)
	next = r.wrote(a, next, "Ada\n")
	r.round()
	require.Equal(t, []string{"one", "name? Ada"}, r.sink.lines)
	r.wrote(a, next, "prompt> ")
	for range 6 {
		r.round()
	}
	require.Equal(t, []string{"one", "name? Ada", "prompt> "}, r.sink.lines)
	require.Zero(t, r.Waiting())
}

func TestWithoutARoleNothingGoesToTheService(t *testing.T) {
	r := newRig(t)
	remote := &memory{}
	r.cfg.Remote = remote
	vm := r.vms["microvm-1"]
	vm.ID, vm.ExecutionRoleARN = "microvm-2", "role"
	r.vms[vm.ID] = vm
	r.wrote(r.logs.App("microvm-1"), 0, "without\n")
	r.wrote(r.logs.App("microvm-2"), 0, "with\n")
	r.round()
	require.Equal(t, []string{"without"}, r.sink.lines)
	require.Equal(t, []string{"with"}, remote.lines)
}

func TestALogThatIsNotToBeKeptIsNotSentEither(t *testing.T) {
	r := newRig(t)
	vm := r.vms["microvm-1"]
	vm.WireLogging = []byte(`{"disabled":{}}`)
	r.vms[vm.ID] = vm
	r.wrote(r.logs.App(vm.ID), 0, "of an earlier version\n")
	r.round()
	require.Empty(t, r.sink.lines)
	require.Zero(t, r.Waiting())
}

func TestThePurgedAreForgotten(t *testing.T) {
	r := newRig(t)
	r.wrote(r.logs.App("microvm-gone"), 0, "one\n")
	r.round()
	require.Zero(t, r.Waiting())
	require.Empty(t, r.sink.lines)
}

func TestRunSendsByTheClockAndEnds(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { r.Run(ctx) })
	r.wrote(r.logs.App("microvm-1"), 0, "one\n")
	require.NoError(t, r.clock.BlockUntilContext(ctx, 1))
	r.clock.Advance(every)
	require.Eventually(t, func() bool { return r.Counts.Sent.Load() == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	done.Wait()
	r.Drain(t.Context())
}
