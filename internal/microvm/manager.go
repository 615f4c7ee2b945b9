package microvm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// Records is what the manager keeps in the store.
type Records interface {
	InsertMicroVM(ctx context.Context, m store.MicroVM, token *store.ClientToken, e store.Event) error
	TransitionMicroVM(ctx context.Context, m store.MicroVM, from string, e store.Event) error
	MicroVM(ctx context.Context, id string) (store.MicroVM, error)
	LiveMicroVMs(ctx context.Context) ([]store.MicroVM, error)
	Version(ctx context.Context, imageID, version string) (store.ImageVersion, error)
	AddEvent(ctx context.Context, e store.Event) error
}

// Door is told which addresses have a microVM behind them.
type Door interface {
	Expose(addr netip.Addr) error
	Withdraw(addr netip.Addr)
}

// Config is what a manager needs. Zero limits mean the defaults.
type Config struct {
	Dir     string // data folder
	Records Records
	Driver  vmm.Driver
	Present snapshot.Machine // this installation; sizes are each image's own
	Boot    BootConfig
	// NextAddr returns an endpoint address after last that is not taken.
	NextAddr func(last netip.Addr, taken func(netip.Addr) bool) (netip.Addr, error)
	// Network is the template of every guest's network; the policy comes from its connectors.
	Network netstack.Config
	Clock   clockwork.Clock
	Log     *slog.Logger

	Warm      int           // VMM processes kept waiting per image in use; default 1, negative none
	WarmKeep  time.Duration // how long after an image was last used; default 5 min
	Launching int           // launches and resumes at once; default twice the cores
	MaxParked int           // requests that wait for one VM; default 1000
}

// goneFor is how long a TERMINATED microVM still answers at its endpoint, with an error.
const goneFor = time.Minute

// Manager runs microVMs. Each has an actor that serialises its state changes.
type Manager struct {
	cfg      Config
	clock    clockwork.Clock
	log      *slog.Logger
	launcher *launcher
	starter  starter       // the launcher, but for tests
	slots    chan struct{} // admission: launches and resumes under way
	door     Door          // set by Start

	stop    context.CancelCauseFunc // ends all actors
	running context.Context         // until stop
	actors  sync.WaitGroup

	mu         sync.RWMutex // guards all below
	closing    bool
	vms        map[string]*vm
	byEndpoint map[string]*vm
	byAddr     map[netip.Addr]*vm
	lastAddr   netip.Addr
	images     map[string]*snapshot.Image // by folder
}

var errClosing = errors.New("the service is shutting down")

// New makes a manager. Start must come before anything else is asked of it.
func New(cfg Config) (*Manager, error) {
	if cfg.Warm == 0 {
		cfg.Warm = 1
	}
	if cfg.WarmKeep == 0 {
		cfg.WarmKeep = 5 * time.Minute
	}
	if cfg.Launching == 0 {
		cfg.Launching = 2 * runtime.NumCPU()
	}
	if cfg.MaxParked == 0 {
		cfg.MaxParked = 1000
	}
	m := &Manager{
		cfg: cfg, clock: cfg.Clock, log: cfg.Log,
		slots: make(chan struct{}, cfg.Launching),
		vms:   map[string]*vm{}, byEndpoint: map[string]*vm{}, byAddr: map[netip.Addr]*vm{},
		images: map[string]*snapshot.Image{},
	}
	for _, dir := range []string{m.runsDir(), m.vmsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the data folder: %w", err)
		}
	}
	warm := newPool(cfg.Driver, m.runsDir(), max(cfg.Warm, 0), cfg.WarmKeep, cfg.Clock, cfg.Log)
	m.launcher = &launcher{driver: cfg.Driver, runs: m.runsDir(), pool: warm}
	m.starter = m.launcher
	m.running, m.stop = context.WithCancelCause(context.Background())
	return m, nil
}

func (m *Manager) runsDir() string { return filepath.Join(m.cfg.Dir, "run") }
func (m *Manager) vmsDir() string  { return filepath.Join(m.cfg.Dir, "microvms") }

// ImageDir is where the snapshot of an image version is.
func ImageDir(dataDir, imageID, version string) string {
	return filepath.Join(dataDir, "images", imageID, version)
}

// Run records a new microVM as PENDING and starts launching it. It returns the record.
func (m *Manager) Run(ctx context.Context, spec RunSpec) (store.MicroVM, error) {
	image, err := m.image(spec.Version)
	if err != nil {
		return store.MicroVM{}, err
	}
	rec := spec.VM
	rec.State, rec.EndpointID, rec.StartedAt = store.VMPending, uuid.NewString(), m.clock.Now()
	v := newVM(m, rec, spec.Version, image)
	if err := m.enter(v); err != nil {
		return store.MicroVM{}, err
	}
	rec = v.view.Load().rec // with its address
	created := store.Event{
		Subject: rec.ID, Operation: "launch", To: rec.State, Cause: causeAPI,
		RequestID: RequestIDFrom(ctx), At: rec.StartedAt,
	}
	if err := m.cfg.Records.InsertMicroVM(ctx, rec, spec.Token, created); err != nil {
		m.leave(v)
		m.actors.Done()
		return store.MicroVM{}, fmt.Errorf("record the microVM: %w", err)
	}
	go v.act(command{kind: launch, cause: causeAPI, requestID: RequestIDFrom(ctx)})
	return rec, nil
}

// enter gives a microVM its address and makes it findable. The caller starts its actor, or calls
// leave and actors.Done.
func (m *Manager) enter(v *vm) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return errClosing
	}
	rec := v.view.Load().rec
	var addr netip.Addr
	if rec.EndpointAddr != "" {
		addr, _ = netip.ParseAddr(rec.EndpointAddr)
	} else {
		var err error
		addr, err = m.cfg.NextAddr(m.lastAddr, func(a netip.Addr) bool { return m.byAddr[a] != nil })
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCapacity, err)
		}
		m.lastAddr = addr
		v.setAddr(addr)
	}
	if err := m.door.Expose(addr); err != nil {
		return fmt.Errorf("open the endpoint: %w", err)
	}
	m.vms[rec.ID], m.byEndpoint[rec.EndpointID], m.byAddr[addr] = v, v, v
	m.actors.Add(1)
	return nil
}

// leave makes a microVM unfindable.
func (m *Manager) leave(v *vm) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec := v.view.Load().rec
	addr, err := netip.ParseAddr(rec.EndpointAddr)
	if err == nil {
		m.door.Withdraw(addr)
		delete(m.byAddr, addr)
	}
	delete(m.vms, rec.ID)
	delete(m.byEndpoint, rec.EndpointID)
}

// image opens the snapshot of a version; snapshots never change, so one opening lasts.
func (m *Manager) image(version store.ImageVersion) (*snapshot.Image, error) {
	dir := ImageDir(m.cfg.Dir, version.ImageID, version.Version)
	m.mu.RLock()
	image := m.images[dir]
	m.mu.RUnlock()
	if image != nil {
		return image, nil
	}
	image, err := snapshot.Open(dir, m.cfg.Present)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.images[dir] = image
	return image, nil
}

// ForgetImage lets go of a version that is about to be deleted.
func (m *Manager) ForgetImage(imageID, version string) {
	dir := ImageDir(m.cfg.Dir, imageID, version)
	m.mu.Lock()
	delete(m.images, dir)
	m.mu.Unlock()
	m.launcher.pool.Forget(dir)
}

// Suspend begins to suspend a RUNNING microVM and returns when that is recorded. A SUSPENDING or
// SUSPENDED one is left as it is. Errors: ErrNotFound, ErrTerminated, ErrConflict.
func (m *Manager) Suspend(ctx context.Context, id string) error {
	return m.order(ctx, id, suspend)
}

// Resume begins to resume a SUSPENDED microVM. A RUNNING or PENDING one is left as it is.
// Errors: ErrNotFound, ErrTerminated, ErrConflict.
func (m *Manager) Resume(ctx context.Context, id string) error {
	return m.order(ctx, id, resume)
}

// Terminate begins to end a microVM in any state. Errors: ErrNotFound.
func (m *Manager) Terminate(ctx context.Context, id string) error {
	err := m.order(ctx, id, terminate)
	if errors.Is(err, ErrTerminated) {
		return nil
	}
	return err
}

func (m *Manager) order(ctx context.Context, id string, kind kind) error {
	m.mu.RLock()
	v := m.vms[id]
	m.mu.RUnlock()
	if v == nil {
		// TERMINATED ones have left the map.
		if _, err := m.cfg.Records.MicroVM(ctx, id); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				return ErrNotFound
			}
			return err
		}
		return ErrTerminated
	}
	return v.order(ctx, command{kind: kind, cause: causeAPI, requestID: RequestIDFrom(ctx), accepted: make(chan error, 1)})
}

// ByEndpoint finds a microVM by its endpoint id.
func (m *Manager) ByEndpoint(id string) (*VM, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v, ok := m.byEndpoint[id]
	return (*VM)(v), ok
}

// ByAddr finds a microVM by its endpoint address.
func (m *Manager) ByAddr(addr netip.Addr) (*VM, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v, ok := m.byAddr[addr]
	return (*VM)(v), ok
}

// Shutdown suspends what runs, waits for it, and ends all VMM processes.
func (m *Manager) Shutdown(ctx context.Context) error {
	m.mu.Lock()
	m.closing = true
	vms := make([]*vm, 0, len(m.vms))
	for _, v := range m.vms {
		vms = append(vms, v)
	}
	m.mu.Unlock()

	var failed []error
	results := make(chan error, len(vms))
	for _, v := range vms {
		go func() {
			results <- v.order(ctx, command{kind: shutdown, cause: causeShutdown, accepted: make(chan error, 1)})
		}()
	}
	for range vms {
		if err := <-results; err != nil && !errors.Is(err, ErrTerminated) {
			failed = append(failed, err)
		}
	}
	m.stop(errClosing)
	m.actors.Wait()
	m.launcher.pool.close()
	return errors.Join(failed...)
}

// admit waits for a launch slot: more launches at once than cores only make all of them slower.
func (m *Manager) admit(ctx context.Context) (release func(), err error) {
	select {
	case m.slots <- struct{}{}:
		return func() { <-m.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
