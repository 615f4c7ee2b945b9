package logship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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

func TestABuildIsSentInPartsWhenItHasEnded(t *testing.T) {
	r := newRig(t)
	unsent := filepath.Join(r.dir, "unsent", "b")
	require.NoError(t, os.Mkdir(filepath.Dir(unsent), 0o700))
	long := strings.Repeat("x", maxBuildLine+5)
	text := "step\n" + long + "\nboot\nok\n"
	boot := strings.Index(text, "boot")
	require.NoError(t, os.WriteFile(unsent, fmt.Appendf(nil, "build 0\nsnapshot %d\nvalidate %d\n", boot, boot+5), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "b.log"), []byte(text), 0o600))
	r.build = store.Build{ID: "b", CreatedAt: time.Unix(0, 0), ImageID: "i", Version: "1.0"}
	require.NoError(t, r.recall())
	r.round()
	require.Empty(t, r.sink.lines, "it goes on")
	r.build.EndedAt = r.clock.Now()
	r.BuildEnded("b")
	r.round()
	require.Equal(t, []string{"step", long[:maxBuildLine], "xxxxx", "boot", "ok"}, r.sink.lines)
	require.Equal(t, []string{"1970/01/01[1.0]build-b", "1970/01/01[1.0]snapshot-b", "1970/01/01[1.0]validate-b"},
		[]string{r.sink.to[0].Stream, r.sink.to[1].Stream, r.sink.to[2].Stream})
	require.NoFileExists(t, unsent)
	r.restart()
	require.NoError(t, r.recall())
	require.Zero(t, r.Waiting())
}

// ended makes a build that has ended and wrote a text.
func (r *rig) ended(text string) {
	r.t.Helper()
	unsent := filepath.Join(r.dir, "unsent")
	require.NoError(r.t, os.Mkdir(unsent, 0o700))
	require.NoError(r.t, os.WriteFile(filepath.Join(unsent, "b"), []byte("build 0\n"), 0o600))
	require.NoError(r.t, os.WriteFile(filepath.Join(r.dir, "b.log"), []byte(text), 0o600))
	r.build = store.Build{ID: "b", CreatedAt: time.Unix(0, 0), EndedAt: r.clock.Now(), ImageID: "i", Version: "1.0"}
	r.BuildEnded("b")
}

func TestAFailureRepeatsNothingOfABuildThatWasTaken(t *testing.T) {
	r := newRig(t)
	const lines = 100_000
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	r.ended(text.String())
	r.sink.err, r.sink.room = errors.New("away"), lines/2
	r.round()
	require.NotEmpty(t, r.sink.lines)
	require.Less(t, len(r.sink.lines), lines)
	r.sink.err = nil
	for range 3 {
		r.round()
	}
	require.Equal(t, strings.TrimSuffix(text.String(), "\n"), strings.Join(r.sink.lines, "\n"))
	require.Zero(t, r.Waiting())
}

func TestABuildThatWritesOnlyEndsOfLinesIsSentInBoundedPieces(t *testing.T) {
	r := newRig(t)
	r.ended(strings.Repeat("\n", 1<<20))
	r.round()
	require.Len(t, r.sink.lines, 1<<20)
	require.LessOrEqual(t, r.sink.most, maxBuildPut/lineCost)
}

func TestABuildThatIsNotToBeSentIsNot(t *testing.T) {
	r := newRig(t)
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "b.log"), []byte("==> note\n"), 0o600))
	r.build = store.Build{ID: "b", EndedAt: r.clock.Now()}
	r.BuildEnded("b")
	r.round()
	require.Empty(t, r.sink.lines)
	require.Zero(t, r.Waiting())
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

func TestFilesAreBoundedAndExpire(t *testing.T) {
	dir := t.TempDir()
	const account = 3 * logfile.MinAppBytes
	files := NewFiles(dir, logfile.MinAppBytes, account, time.Hour)
	now := time.Now()
	text := strings.Repeat("y", 1000)
	for i := range 6 {
		to := loggroup.Destination{AccountID: "1", Region: "r", Group: "../../g", Stream: fmt.Sprint(i)}
		require.NoError(t, files.Put(t.Context(), to, many(2000, func(int) logfile.Line { return line(now, "stdout", text) })))
		path := filepath.Join(dir, to.Path())
		at := now.Add(time.Duration(i) * time.Minute)
		for _, segment := range []string{path, path + ".1"} {
			info, err := os.Stat(segment)
			require.NoError(t, err)
			require.LessOrEqual(t, info.Size(), int64(logfile.MinAppBytes/2))
			require.NoError(t, os.Chtimes(segment, at, at))
		}
	}
	read, err := os.ReadFile(filepath.Join(dir, loggroup.Destination{AccountID: "1", Region: "r", Group: "../../g", Stream: "5"}.Path()))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(read), now.UTC().Format("2006-01-02T15:04:05.000000Z")+" "+text+"\n"))

	require.NoError(t, files.Expire(now))
	left := tree(t, dir)
	var sum int64
	for _, path := range left {
		info, err := os.Stat(path)
		require.NoError(t, err)
		sum += info.Size()
	}
	require.LessOrEqual(t, sum, int64(account))
	require.Greater(t, sum, int64(account/2))
	require.Contains(t, left[0], "1.log", "the oldest went")
	require.Contains(t, left[len(left)-1], "5.log")
	require.NoError(t, files.Expire(now.Add(2*time.Hour)))
	require.Empty(t, tree(t, dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.NoError(t, NewFiles(filepath.Join(dir, "none"), 0, 0, 0).Expire(now))
}

func TestManySmallFilesAreBoundedToo(t *testing.T) {
	dir := t.TempDir()
	files := NewFiles(dir, 0, 10*leastFile, time.Hour)
	for i := range 20 {
		to := loggroup.Destination{AccountID: "1", Region: "r", Group: "g", Stream: fmt.Sprint(i)}
		require.NoError(t, files.Put(t.Context(), to, []logfile.Line{line(time.Now(), "stdout", "x")}))
	}
	require.NoError(t, files.Expire(time.Now()))
	require.Len(t, tree(t, dir), 10)
}

func tree(t *testing.T, dir string) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	return files
}
