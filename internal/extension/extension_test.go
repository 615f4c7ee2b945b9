package extension_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	api "github.com/dormouse-dev/dormouse/internal/awsapi/client"
	"github.com/dormouse-dev/dormouse/internal/extension"
	"github.com/dormouse-dev/dormouse/internal/extension/client"
	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/pagetoken"
	"github.com/dormouse-dev/dormouse/internal/sigv4"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const (
	region  = "us-east-1"
	mine    = "000000000000"
	theirs  = "111111111111"
	vmID    = "microvm-1"
	buildID = "6f0c8a52-4e0b-4a55-9c0e-3f7a0d9f2b11"
	image   = "arn:aws:lambda:us-east-1:000000000000:microvm-image:app"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 250e6, time.UTC)

// keys are one access key for each account, named as the account.
type keys struct{}

func (keys) Secret(_ context.Context, id string) (secret, account string, err error) {
	if id != mine && id != theirs {
		return "", "", sigv4.ErrUnknownKey
	}
	return "secret", id, nil
}

// rig is a server over real HTTP, with a real store, of two accounts that have the same things.
type rig struct {
	t        *testing.T
	url      string
	store    *store.Store
	logs     *logfile.Folder
	vms      *fakeVMs
	buildDir string
	clock    *clockwork.FakeClock // of logs that are followed; signatures tell the real time
	stopping chan struct{}
}

// newRig serves at the rates given: by default there are none.
func newRig(t *testing.T, limits ...string) *rig {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	records, err := store.Open(ctx, filepath.Join(dir, "dormouse.db"), store.Quotas{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, records.Close()) })
	pages, err := pagetoken.New(make([]byte, pagetoken.KeySize))
	require.NoError(t, err)
	r := &rig{
		t: t, store: records, logs: logfile.NewFolder(filepath.Join(dir, "logs"), 0), buildDir: dir,
		vms: &fakeVMs{details: map[string]microvm.Details{}}, clock: clockwork.NewFakeClock(), stopping: make(chan struct{}),
	}
	rates, err := awsapi.ParseRates(limits, extension.Operations...)
	require.NoError(t, err)
	h := extension.NewHandler(extension.Config{
		Store: records, MicroVMs: r.vms, Logs: r.logs, BuildLog: r.buildLog, Auth: awsapi.NewAuthenticator(keys{}, clockwork.NewRealClock()),
		Limiter: awsapi.NewLimiter(rates, r.clock), Pages: pages, Clock: r.clock, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Stopping: r.stopping,
	})
	server := httptest.NewServer(h.Beside(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })))
	t.Cleanup(server.Close)
	r.url = server.URL
	for _, account := range []string{mine, theirs} {
		require.NoError(t, records.CreateAccount(ctx, store.Account{ID: account, CreatedAt: noon}))
	}
	r.addImage(mine, "image-1", buildID)
	r.addImage(theirs, "image-2", "7f0c8a52-4e0b-4a55-9c0e-3f7a0d9f2b11")
	r.addVM(mine, "image-1", vmID)
	r.addVM(theirs, "image-2", "microvm-2")
	return r
}

func (r *rig) addImage(account, id, build string) {
	i := store.Image{ID: id, AccountID: account, Region: region, Name: "app", State: store.ImageCreated, CreatedAt: noon}
	v := store.ImageVersion{ImageID: id, Version: "1.0", Major: 1, State: store.VersionSuccessful, Status: store.StatusActive}
	v.Config.MinimumMemoryMiB = 512
	b := store.Build{ID: build, ImageID: id, Version: "1.0", State: store.BuildInProgress, CreatedAt: noon}
	require.NoError(r.t, r.store.CreateImage(r.t.Context(), i, v, b, nil, store.Event{Subject: id, Operation: "create", To: store.ImageCreating, Cause: "api", At: noon}))
}

func (r *rig) addVM(account, image, id string) {
	vm := store.MicroVM{
		ID: id, AccountID: account, Region: region, ImageID: image, ImageVersion: "1.0", State: store.VMPending, EndpointID: id, StartedAt: noon,
	}
	e := store.Event{Subject: id, Operation: "launch", To: store.VMPending, Cause: "api", RequestID: "request-1", At: noon}
	require.NoError(r.t, r.store.InsertMicroVM(r.t.Context(), vm, nil, e))
	r.moves(id, store.VMRunning, store.Phase{Name: "queue", Duration: 100 * time.Microsecond}, store.Phase{Name: "load", Duration: time.Second})
}

// moves changes a microVM's state.
func (r *rig) moves(id, state string, phases ...store.Phase) {
	vm, err := r.store.MicroVM(r.t.Context(), id)
	require.NoError(r.t, err)
	from := vm.State
	vm.State, vm.SuspendedAt = state, time.Time{}
	if state == store.VMSuspended {
		vm.SuspendedAt = noon
	}
	e := store.Event{Subject: id, Operation: "change", From: from, To: state, Cause: "api", Detail: "why", Phases: phases, At: noon}
	require.NoError(r.t, r.store.TransitionMicroVM(r.t.Context(), vm, from, e))
}

// endBuild fails the build of account mine.
func (r *rig) endBuild() {
	b, err := r.store.Build(r.t.Context(), buildID)
	require.NoError(r.t, err)
	b.State, b.StateReason, b.EndedAt, b.LogTail = store.BuildFailed, "no", noon.Add(time.Minute), "one\ntwo\n"
	b.Phases, b.CodeBytes = []store.Phase{{Name: "fetch", Duration: 20 * time.Millisecond}}, 7
	require.NoError(r.t, r.store.ChangeImage(r.t.Context(), store.ImageChange{
		ImageID: "image-1", To: store.ImageCreateFailed, Version: "1.0", VersionState: store.VersionFailed, Build: &b, At: noon,
	}))
}

func (r *rig) buildLog(id string) string { return filepath.Join(r.buildDir, id+".log") }

func (r *rig) writesBuildLog(text string) {
	file, err := os.OpenFile(r.buildLog(buildID), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(r.t, err)
	defer file.Close()
	_, err = file.WriteString(text)
	require.NoError(r.t, err)
}

func (r *rig) as(account string) *client.Client {
	return client.New(api.New(r.url, region, account, "secret"))
}

// get sends a signed request and returns what came back, raw.
func (r *rig) get(path string) (status int, body string) {
	r.t.Helper()
	return r.getAs(mine, region, path)
}

func (r *rig) getAs(account, region, path string) (status int, body string) {
	r.t.Helper()
	response, err := signedGet(r.t, r.url+extension.Prefix+path, account, region)
	require.NoError(r.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	return response.StatusCode, string(text)
}

// refused checks that an error is a refusal with this code.
func refused(t *testing.T, err error, code awsapi.ErrorCode) {
	t.Helper()
	var refusal *awsapi.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, code, refusal.Code)
	require.NotEmpty(t, refusal.RequestID)
	require.NotEmpty(t, refusal.Message)
}

// fakeVMs are microVMs that tests speak for.
type fakeVMs struct {
	mu        sync.Mutex // guards all below
	details   map[string]microvm.Details
	listeners int
	caughtUp  int
	onLook    func()
}

func (f *fakeVMs) Details(id string) (microvm.Details, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.details[id]
	return d, ok
}

func (f *fakeVMs) Listen(string) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.listeners--
	}
}

func (f *fakeVMs) CatchUp(context.Context, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.caughtUp++
}

func (f *fakeVMs) Look(context.Context, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.onLook != nil {
		f.onLook()
	}
}

func (f *fakeVMs) listening() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listeners
}
