package microvm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/vmm/vmmtest"
)

const account = "111111111111"

// world is a manager over a real store and file system, with fake guests. It lives in a bubble of
// testing/synctest: clock and contexts tell the bubble's time, which passes at once when nobody in
// it has anything to do, and a goroutine that is left at the end fails the test.
type world struct {
	*Manager
	t       *testing.T
	dir     string
	store   *store.Store
	records *records
	guests  *guests
	driver  *vmmtest.Driver
	door    *door
	version store.ImageVersion
	config  func(*Config)
	vms     int // for ids

	doorRefuses bool // whatever the address
}

// inWorld runs a test in a bubble.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	inWorldWith(t, func(*Config) {}, test)
}

func inWorldWith(t *testing.T, config func(*Config), test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, dir: t.TempDir(), config: config, driver: &vmmtest.Driver{}}
		var err error
		w.store, err = store.Open(t.Context(), filepath.Join(w.dir, "dormouse.db"), store.Quotas{})
		require.NoError(t, err)
		defer func() { require.NoError(t, w.store.Close()) }()
		w.addImage()
		w.open()
		defer w.close()
		test(t, w)
	})
}

func (w *world) addImage() {
	now := time.Now()
	require.NoError(w.t, w.store.CreateAccount(w.t.Context(), store.Account{ID: account, Name: "test", CreatedAt: now}))
	i := store.Image{ID: "image-1", AccountID: account, Region: "us-east-1", Name: "app", State: store.ImageCreated, CreatedAt: now, UpdatedAt: now}
	v := store.ImageVersion{ImageID: i.ID, Version: "1.0", Major: 1, State: store.VersionSuccessful, Status: store.StatusActive, CreatedAt: now, UpdatedAt: now}
	v.Config.Hooks = store.Hooks{Port: 9000}
	b := store.Build{ID: "build-1", ImageID: i.ID, Version: v.Version, State: store.BuildSuccessful, CreatedAt: now, EndedAt: now}
	require.NoError(w.t, w.store.CreateImage(w.t.Context(), i, v, b, nil, store.Event{Subject: i.ID, At: now}))
	w.version = v
	dir := ImageDir(w.dir, i.ID, v.Version)
	require.NoError(w.t, os.MkdirAll(dir, 0o700))
	for _, name := range []string{snapshot.MemoryFile, snapshot.DiskFile, snapshot.RootFile, snapshot.StateFile} {
		require.NoError(w.t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	_, err := snapshot.Seal(dir, snapshot.Manifest{Machine: snapshot.Machine{VMM: w.driver.Identity(), CPUs: 1, MemoryMiB: 1}, Secret: make([]byte, 32)})
	require.NoError(w.t, err)
}

// open makes a manager over the present state, as a restarted daemon does.
func (w *world) open() { w.openWith(func(*guests) {}) }

func (w *world) openWith(spoil func(*guests)) {
	w.records = &records{Store: w.store, hooks: w.version.Config.Hooks}
	w.guests = &guests{t: w.t, answers: map[string]answer{}}
	spoil(w.guests)
	w.door = &door{open: map[netip.Addr]bool{}, refuses: w.doorRefuses}
	cfg := Config{
		Dir: w.dir, Records: w.records, Driver: w.driver, Present: snapshot.Machine{VMM: w.driver.Identity()},
		NextAddr: nextAddr, Logs: logfile.NewFolder(filepath.Join(w.dir, "logs"), logfile.DefaultAppBytes), Clock: clockwork.NewRealClock(), Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)), Warm: -1,
	}
	w.config(&cfg)
	var err error
	w.Manager, err = New(cfg)
	require.NoError(w.t, err)
	w.starter = w.guests
	require.NoError(w.t, w.Start(w.t.Context(), w.door))
}

// close ends the daemon as SIGTERM does.
func (w *world) close() {
	if err := w.Shutdown(context.Background()); err != nil {
		w.t.Log(err)
	}
	for _, s := range read(w.guests, &w.guests.sessions) {
		s.die() // one that was left running
	}
}

// hooks enables hooks with timeouts of ten seconds.
func (w *world) hooks(names ...string) {
	for _, name := range names {
		hook := store.Hook{Enabled: true, Timeout: 10 * time.Second}
		hooks := &w.version.Config.Hooks
		*map[string]*store.Hook{"run": &hooks.Run, "resume": &hooks.Resume, "suspend": &hooks.Suspend, "terminate": &hooks.Terminate}[name] = hook
	}
}

// launch asks for a microVM and does not wait for it.
func (w *world) launch(change func(*store.MicroVM)) string {
	w.t.Helper()
	w.vms++
	rec := store.MicroVM{
		ID: fmt.Sprintf("microvm-%d", w.vms), AccountID: account, Region: "us-east-1", ImageID: "image-1", ImageVersion: "1.0",
		MaximumDuration: 8 * time.Hour,
	}
	if change != nil {
		change(&rec)
	}
	rec, err := w.Run(w.t.Context(), RunSpec{VM: rec, Version: w.version})
	require.NoError(w.t, err)
	require.Equal(w.t, store.VMPending, rec.State)
	return rec.ID
}

// run launches a microVM and waits until it is RUNNING.
func (w *world) run(change func(*store.MicroVM)) string {
	w.t.Helper()
	id := w.launch(change)
	w.becomes(id, store.VMRunning)
	w.guests.said()
	return id
}

func idle(maxIdle, maxSuspended time.Duration, autoResume bool) func(*store.MicroVM) {
	return func(rec *store.MicroVM) {
		rec.Idle = &store.IdlePolicy{MaxIdle: maxIdle, MaxSuspended: maxSuspended, AutoResume: autoResume}
	}
}

// row is what the store says.
func (w *world) row(id string) store.MicroVM {
	w.t.Helper()
	rec, err := w.store.MicroVM(w.t.Context(), id)
	require.NoError(w.t, err)
	return rec
}

// becomes lets time pass until a row is in a state, ten minutes at most.
func (w *world) becomes(id, state string) store.MicroVM {
	w.t.Helper()
	v, err := w.find(w.t.Context(), id)
	require.NoError(w.t, err)
	late := time.After(10 * time.Minute)
	for {
		now := v.view.Load()
		synctest.Wait() // the row may follow what is shown
		rec := w.row(id)
		if rec.State == state {
			return rec
		}
		select {
		case <-now.changed:
		case <-late:
			require.Equal(w.t, state, rec.State)
		}
	}
}

// settles lets everything happen that happens without time passing.
func (w *world) settles() { synctest.Wait() }

// passes lets time pass, and everything happen that it brings.
func (w *world) passes(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// events of a microVM, oldest first.
func (w *world) events(id string) []store.Event {
	w.t.Helper()
	events, _, err := w.store.Events(w.t.Context(), id, store.Page{Limit: 1000})
	require.NoError(w.t, err)
	for i, j := 0, len(events)-1; i < j; i, j = i+1, j-1 {
		events[i], events[j] = events[j], events[i]
	}
	return events
}

func (w *world) lastEvent(id string) store.Event {
	events := w.events(id)
	return events[len(events)-1]
}

// vm is what the endpoint gets.
func (w *world) vm(id string) *VM {
	w.t.Helper()
	v, ok := w.ByEndpoint(w.row(id).EndpointID)
	require.True(w.t, ok)
	return v
}

// files are what a microVM has on disk.
func (w *world) files(id string) (names []string) {
	entries, err := os.ReadDir(filepath.Join(w.vmsDir(), id))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(w.t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// request is one request that waits for its microVM.
type request struct {
	lease *Lease
	err   error
	done  chan struct{}
}

// requests begins n requests at once.
func (w *world) requests(ctx context.Context, id string, n int) []*request {
	vm := w.vm(id)
	var all []*request
	for range n {
		r := &request{done: make(chan struct{})}
		all = append(all, r)
		go func() {
			defer close(r.done)
			r.lease, r.err = vm.Lease(ctx)
		}()
	}
	return all
}

func nextAddr(last netip.Addr, taken func(netip.Addr) bool) (netip.Addr, error) {
	if !last.IsValid() {
		last = netip.MustParseAddr("127.64.0.0")
	}
	for addr := last.Next(); ; addr = addr.Next() {
		if !taken(addr) {
			return addr, nil
		}
	}
}

// door remembers which endpoints are open.
type door struct {
	mu      sync.Mutex
	open    map[netip.Addr]bool
	refuses bool
}

func (d *door) Expose(addr netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuses {
		return errors.New("address in use")
	}
	d.open[addr] = true
	return nil
}

func (d *door) Withdraw(addr netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, addr)
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.open)
}

// records is the store, which tests can make fail.
type records struct {
	*store.Store
	fails atomic.Pointer[func(to string) error] // of a transition, by its new state
	hooks store.Hooks                           // of every version
	live  func()                                // called when the live microVMs have been listed; may be nil
}

func (r *records) LiveMicroVMs(ctx context.Context) ([]store.MicroVM, error) {
	if r.live != nil {
		defer r.live()
	}
	return r.Store.LiveMicroVMs(ctx)
}

func (r *records) Version(ctx context.Context, imageID, version string) (store.ImageVersion, error) {
	v, err := r.Store.Version(ctx, imageID, version)
	v.Config.Hooks = r.hooks
	return v, err
}

func (r *records) failing(f func(to string) error) { r.fails.Store(&f) }

func (r *records) TransitionMicroVM(ctx context.Context, m store.MicroVM, from string, e store.Event) error {
	if f := r.fails.Load(); f != nil {
		if err := (*f)(m.State); err != nil {
			return err
		}
	}
	return r.Store.TransitionMicroVM(ctx, m, from, e)
}
