package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/pagetoken"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const (
	account   = store.DefaultAccountID
	region    = "us-east-1"
	appARN    = "arn:aws:lambda:us-east-1:000000000000:microvm-image:app"
	baseARN   = "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1"
	roleARN   = "arn:aws:iam::000000000000:role/Build"
	noImage   = "arn:aws:lambda:us-east-1:000000000000:microvm-image:none"
	foreign   = "arn:aws:lambda:us-east-1:111111111111:microvm-image:app"
	elsewhere = "arn:aws:lambda:eu-west-1:000000000000:microvm-image:app"
)

func managed(name string) string {
	return "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:" + name
}

// rig is a Service on a real store with images and microVMs that change rows and nothing else.
type rig struct {
	*Service
	ctx    context.Context
	path   string // of the database
	store  *store.Store
	images *fakeImages
	vms    *fakeVMs
	tokens *fakeTokens
}

func newRig(t *testing.T) *rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dormouse.db")
	require.NoError(t, os.WriteFile(path, emptyDatabase(), 0o600))
	return newRigAt(t, path, store.Quotas{})
}

// newRigAt is a rig on a database that is there.
func newRigAt(t *testing.T, path string, quotas store.Quotas) *rig {
	t.Helper()
	ctx := context.Background()
	st, err := store.Open(ctx, path, quotas)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	clock := clockwork.NewFakeClockAt(time.Date(2026, 11, 23, 10, 0, 0, 123e6, time.UTC))
	_, err = st.EnsureDefaults(ctx, clock.Now())
	require.NoError(t, err)
	key, err := st.PageTokenKey(ctx, clock.Now())
	require.NoError(t, err)
	pages, err := pagetoken.New(key)
	require.NoError(t, err)
	images, vms, tokens := &fakeImages{st, clock}, &fakeVMs{st: st, clock: clock}, &fakeTokens{}
	s := New(Config{Store: st, Images: images, MicroVMs: vms, Tokens: tokens, Endpoints: hosts{}, Clock: clock, Pages: pages})
	return &rig{s, as(account, region), path, st, images, vms, tokens}
}

// limited is another rig on the same database, with quotas.
func (r *rig) limited(t *testing.T, quotas store.Quotas) *rig {
	t.Helper()
	return newRigAt(t, r.path, quotas)
}

// emptyDatabase is what store.Open makes of a new file. Making it takes longer than most tests here.
var emptyDatabase = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "dormouse.db")
	st, err := store.Open(context.Background(), path, store.Quotas{})
	if err == nil {
		err = st.Close()
	}
	if err != nil {
		panic(err)
	}
	made, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return made
})

func as(account, region string) context.Context {
	return awsapi.WithCaller(context.Background(), awsapi.Caller{AccountID: account, Region: region, AccessKeyID: "AKIDEXAMPLE", RequestID: "request-1"})
}

// createImage builds app, or another name, to the end.
func (r *rig) createImage(t *testing.T, name string, change ...func(*awsapi.CreateMicrovmImageInput)) store.Image {
	t.Helper()
	in := createInput(name)
	for _, f := range change {
		f(in)
	}
	_, err := r.CreateMicrovmImage(r.ctx, in)
	require.NoError(t, err)
	i, err := r.store.ImageByName(r.ctx, account, region, name)
	require.NoError(t, err)
	r.finish(t, i, "1.0", store.VersionSuccessful)
	return i
}

// finish ends the build of a version.
func (r *rig) finish(t *testing.T, i store.Image, version, state string) {
	t.Helper()
	image, status := store.ImageCreated, store.StatusActive
	if state == store.VersionFailed {
		image, status = store.ImageCreateFailed, store.StatusInactive
	}
	builds, _, err := r.store.ListBuilds(r.ctx, i.ID, version, store.Page{Limit: 1})
	require.NoError(t, err)
	b := builds[0]
	b.EndedAt = r.clock.Now()
	require.NoError(t, r.store.ChangeImage(r.ctx, store.ImageChange{
		ImageID: i.ID, To: image, Version: version, VersionState: state, VersionStatus: status, Build: &b, At: r.clock.Now(),
	}))
}

// setVM moves a microVM to a state behind the service's back.
func (r *rig) setVM(t *testing.T, id, state string) {
	t.Helper()
	vm, err := r.store.MicroVM(r.ctx, id)
	require.NoError(t, err)
	if from := vm.State; from != state {
		vm.State = state
		if state == store.VMTerminated {
			vm.TerminatedAt, vm.StateReason = r.clock.Now(), "Success."
		}
		require.NoError(t, r.store.TransitionMicroVM(r.ctx, vm, from, store.Event{Subject: id}))
	}
}

// run launches app and sets its state.
func (r *rig) run(t *testing.T, state string) string {
	t.Helper()
	out, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN})
	require.NoError(t, err)
	r.setVM(t, out.MicrovmId, state)
	return out.MicrovmId
}

func createInput(name string) *awsapi.CreateMicrovmImageInput {
	return &awsapi.CreateMicrovmImageInput{
		BaseImageArn: baseARN, BuildRoleArn: roleARN, CodeArtifact: awsapi.CodeArtifact{Uri: p("s3://bkt/app.zip")}, Name: name,
	}
}

func p[T any](v T) *T { return &v }

// refused checks that an error is a refusal with exactly this code and text.
func refused(t *testing.T, err error, code awsapi.ErrorCode, text string) {
	t.Helper()
	var refusal *awsapi.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, code, refusal.Code)
	require.Equal(t, text, refusal.Message)
}

type fakeImages struct {
	st    *store.Store
	clock clockwork.Clock
}

func (f *fakeImages) Create(ctx context.Context, i store.Image, config store.ImageConfig, token *store.ClientToken) (store.Image, store.ImageVersion, error) {
	now := f.clock.Now()
	i.State, i.CreatedAt, i.UpdatedAt = store.ImageCreating, now, now
	v := store.ImageVersion{
		ImageID: i.ID, Version: "1.0", Major: 1, State: store.VersionPending, Status: store.StatusInactive,
		Config: config, CreatedAt: now, UpdatedAt: now,
	}
	b := store.Build{ID: uuid.NewString(), ImageID: i.ID, Version: v.Version, State: store.BuildPending, CreatedAt: now}
	return i, v, f.st.CreateImage(ctx, i, v, b, token, store.Event{Subject: i.ID, At: now})
}

func (f *fakeImages) Delete(ctx context.Context, id string) error {
	return f.st.BeginDeleteImage(ctx, id, store.SettledImageStates, store.Event{Subject: id, At: f.clock.Now()})
}

func (f *fakeImages) Update(ctx context.Context, id string, config store.ImageConfig, token *store.ClientToken) (store.Image, store.ImageVersion, error) {
	now := f.clock.Now()
	i, err := f.st.Image(ctx, id)
	if err != nil {
		return store.Image{}, store.ImageVersion{}, err
	}
	v := store.ImageVersion{ImageID: id, State: store.VersionPending, Status: store.StatusInactive, Config: config, CreatedAt: now, UpdatedAt: now}
	b := store.Build{ID: uuid.NewString(), ImageID: id, State: store.BuildPending, CreatedAt: now}
	v, _, err = f.st.AddVersion(ctx, store.SettledImageStates, v, b, token, store.Event{Subject: id, Operation: "update", At: now})
	i.State, i.UpdatedAt = store.ImageUpdating, now
	return i, v, err
}

func (f *fakeImages) DeleteVersion(ctx context.Context, id, version string) error {
	return f.st.BeginDeleteVersion(ctx, id, version, store.SettledImageStates, store.Event{Subject: id, At: f.clock.Now()})
}

type fakeVMs struct {
	st    *store.Store
	clock clockwork.Clock

	mu    sync.Mutex // guards what is below
	n     int
	calls []string
	spec  microvm.RunSpec
	err   error // answered by every method, if set
}

func (f *fakeVMs) Run(ctx context.Context, spec microvm.RunSpec) (store.MicroVM, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spec = spec
	if f.err != nil {
		return store.MicroVM{}, fmt.Errorf("run: %w", f.err)
	}
	n := f.n + 1
	vm := spec.VM
	vm.State, vm.StartedAt, vm.EndpointID = store.VMPending, f.clock.Now(), uuid.NewString()
	vm.EndpointAddr = fmt.Sprintf("127.64.%d.%d", n/250, n%250+1)
	err := f.st.InsertMicroVM(ctx, vm, spec.Token, store.Event{Subject: vm.ID, RequestID: microvm.RequestIDFrom(ctx)})
	if err == nil {
		f.n = n
	}
	return vm, err
}

func (f *fakeVMs) Suspend(ctx context.Context, id string) error   { return f.call("suspend", id) }
func (f *fakeVMs) Resume(ctx context.Context, id string) error    { return f.call("resume", id) }
func (f *fakeVMs) Terminate(ctx context.Context, id string) error { return f.call("terminate", id) }

func (f *fakeVMs) call(what, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what+" "+id)
	if f.err != nil {
		return fmt.Errorf("%s: %w", what, f.err)
	}
	return nil
}

type fakeTokens struct {
	vm    string
	ports []endpoint.PortRange
	ttl   time.Duration
	err   error
}

func (f *fakeTokens) Mint(vmID string, ports []endpoint.PortRange, ttl time.Duration) (string, error) {
	f.vm, f.ports, f.ttl = vmID, ports, ttl
	return "a..b.c.d", f.err
}

func (f *fakeTokens) MintShell(vmID string, ttl time.Duration) (string, error) {
	f.vm, f.ports, f.ttl = vmID, nil, ttl
	return "s..h.e.l", f.err
}

type hosts struct{}

func (hosts) Host(vm store.MicroVM) string { return vm.EndpointAddr + ":7443" }

var errBroken = errors.New("broken")
