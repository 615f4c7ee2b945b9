package microvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/logfile"
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
	Connector(ctx context.Context, accountID, region, idOrName string) (store.Connector, error)
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
	// NextAddr returns an endpoint address after last that is not taken; nil where microVMs have names only.
	NextAddr func(last netip.Addr, taken func(netip.Addr) bool) (netip.Addr, error)
	// Network is the template of every guest's network; the policy comes from its connectors.
	Network netstack.Config
	// Metadata makes the metadata service of a guest when that first asks; nil: guests have none.
	Metadata func(who Identity) http.Handler
	// Networks are the named ones of the configuration.
	Networks []Network
	Logs     *logfile.Folder // gets what microVMs write
	Clock    clockwork.Clock
	Log      *slog.Logger

	Warm      int           // VMM processes kept waiting per image in use; default 1, negative none
	WarmKeep  time.Duration // how long after an image was last used; default 5 min
	Launching int           // launches, resumes and suspends at once; default one per core
	MaxParked int           // requests that wait for one VM; default 1000

	DrainLimit time.Duration // how long a suspend or terminate waits for requests in flight; default 2 s

	IdleCounts IdleCounts // what keeps microVMs awake besides traffic through their endpoints
}

// slotLimit is how long a launch, resume or suspend keeps others waiting at most. What costs the
// host something is over by then; a hook may take a minute, and a hostile one will.
const slotLimit = 5 * time.Second

// goneFor is how long a TERMINATED microVM still answers at its endpoint, with an error.
const goneFor = time.Minute

// Manager runs microVMs. Each has an actor that serialises its state changes.
type Manager struct {
	cfg      Config
	clock    clockwork.Clock
	log      *slog.Logger
	launcher *launcher
	pool     *pool
	starter  starter       // the launcher, but for tests
	slots    chan struct{} // admission: launches, resumes and suspends under way
	network  totals
	door     Door // set by Start

	stop    context.CancelCauseFunc // ends all actors
	running context.Context         // until stop
	closing chan struct{}           // closed when Shutdown begins: nothing new starts
	actors  sync.WaitGroup
	loose   sync.WaitGroup // what nothing but Shutdown waits for

	mu         sync.RWMutex // guards all below
	shut       bool         // closing is closed
	vms        map[string]*vm
	byEndpoint map[string]*vm
	byAddr     map[netip.Addr]*vm
	lastAddr   netip.Addr
	departed   store.Traffic              // of microVMs that have left
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
		cfg.Launching = runtime.NumCPU()
	}
	if cfg.MaxParked == 0 {
		cfg.MaxParked = 1000
	}
	if cfg.DrainLimit == 0 {
		cfg.DrainLimit = 2 * time.Second
	}
	m := &Manager{
		cfg: cfg, clock: cfg.Clock, log: cfg.Log,
		slots: make(chan struct{}, cfg.Launching), closing: make(chan struct{}),
		vms: map[string]*vm{}, byEndpoint: map[string]*vm{}, byAddr: map[netip.Addr]*vm{},
		images: map[string]*snapshot.Image{},
	}
	for _, dir := range []string{m.runsDir(), m.vmsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the data folder: %w", err)
		}
	}
	m.pool = newPool(cfg.Driver, m.runsDir(), max(cfg.Warm, 0), cfg.WarmKeep, cfg.Clock, cfg.Log)
	m.launcher = &launcher{pool: m.pool}
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
// Errors: ErrCapacity, and those of store.InsertMicroVM; store.ErrConflict also where the snapshot
// is gone.
func (m *Manager) Run(ctx context.Context, spec RunSpec) (store.MicroVM, error) {
	image, err := m.image(spec.Version)
	if errors.Is(err, fs.ErrNotExist) {
		return store.MicroVM{}, fmt.Errorf("%w: %w", store.ErrConflict, err)
	}
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
		v.close()
		return store.MicroVM{}, fmt.Errorf("record the microVM: %w", err)
	}
	m.keep(image)
	go v.act(command{kind: launch, cause: causeAPI, requestID: RequestIDFrom(ctx)})
	return rec, nil
}

// enter gives a new microVM its address, if microVMs have some, and makes it findable. The caller starts its actor, or
// calls leave and close.
func (m *Manager) enter(v *vm) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut {
		return errClosing
	}
	if m.vms[v.id] != nil {
		return fmt.Errorf("microVM %s: %w", v.id, store.ErrExists)
	}
	if m.cfg.NextAddr == nil {
		m.add(v, netip.Addr{})
		return nil
	}
	addr, err := m.cfg.NextAddr(m.lastAddr, func(a netip.Addr) bool { return m.byAddr[a] != nil })
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCapacity, err)
	}
	if err := m.door.Expose(addr); err != nil {
		return fmt.Errorf("open the endpoint: %w", err)
	}
	m.lastAddr = addr
	v.setAddr(addr)
	m.add(v, addr)
	return nil
}

// add makes a microVM findable. The caller holds mu.
func (m *Manager) add(v *vm, addr netip.Addr) {
	rec := v.view.Load().rec
	m.vms[rec.ID], m.byEndpoint[rec.EndpointID] = v, v
	if addr.IsValid() {
		m.byAddr[addr] = v
	}
	m.actors.Add(1)
}

// leave makes a microVM unfindable.
func (m *Manager) leave(v *vm) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec := v.view.Load().rec
	if m.vms[rec.ID] == v {
		m.departed = sum(m.departed, v.traffic.totals())
	}
	addr, err := netip.ParseAddr(rec.EndpointAddr)
	if err == nil {
		m.door.Withdraw(addr)
		delete(m.byAddr, addr)
	}
	delete(m.vms, rec.ID)
	delete(m.byEndpoint, rec.EndpointID)
}

// image finds the snapshot of a version, opened already or not.
func (m *Manager) image(version store.ImageVersion) (*snapshot.Image, error) {
	dir := ImageDir(m.cfg.Dir, version.ImageID, version.Version)
	m.mu.RLock()
	image := m.images[dir]
	m.mu.RUnlock()
	if image != nil {
		return image, nil
	}
	return snapshot.Open(dir, m.cfg.Present)
}

// keep remembers an open snapshot: they never change, so one opening lasts. A microVM of it must be
// recorded and have no actor yet: the image cannot be deleted before it ends, and is forgotten then.
func (m *Manager) keep(image *snapshot.Image) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.images[image.Dir] = image
}

// ForgetImage lets go of a version that is about to be deleted.
func (m *Manager) ForgetImage(imageID, version string) {
	dir := ImageDir(m.cfg.Dir, imageID, version)
	m.mu.Lock()
	delete(m.images, dir)
	m.mu.Unlock()
	m.pool.forget(dir)
}

// Suspend begins to suspend a RUNNING microVM and returns when that is recorded. A SUSPENDING or
// SUSPENDED one is left as it is. It waits some seconds for a launch or a wake to end.
// Errors: ErrNotFound, ErrTerminated, ErrConflict.
func (m *Manager) Suspend(ctx context.Context, id string) error {
	v, err := m.find(ctx, id)
	if err != nil {
		return err
	}
	return v.order(ctx, command{kind: suspend, cause: causeAPI, requestID: RequestIDFrom(ctx)})
}

// Resume begins to resume a SUSPENDED microVM. A RUNNING or PENDING one is left as it is. It waits
// some seconds for a suspend to end. Errors: ErrNotFound, ErrTerminated, ErrConflict.
func (m *Manager) Resume(ctx context.Context, id string) error {
	v, err := m.find(ctx, id)
	if err != nil {
		return err
	}
	return v.order(ctx, command{kind: resume, cause: causeAPI, requestID: RequestIDFrom(ctx)})
}

// Terminate begins to end a microVM in any state, whatever it is doing, and returns when that is
// recorded. It ends also if ctx does before. Errors: ErrNotFound.
func (m *Manager) Terminate(ctx context.Context, id string) error {
	v, err := m.find(ctx, id)
	if errors.Is(err, ErrTerminated) {
		return nil
	}
	if err != nil {
		return err
	}
	return v.terminateNow(ctx, command{kind: terminate, cause: causeAPI, requestID: RequestIDFrom(ctx)})
}

// find returns a microVM by its id. Some time after its end it is ErrTerminated.
func (m *Manager) find(ctx context.Context, id string) (*vm, error) {
	m.mu.RLock()
	v := m.vms[id]
	m.mu.RUnlock()
	if v != nil {
		return v, nil
	}
	if _, err := m.cfg.Records.MicroVM(ctx, id); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil, ErrNotFound
		}
		return nil, err
	}
	return nil, ErrTerminated
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

// Shutdown suspends what runs, waits for it, and ends all VMM processes. Launches that have not
// begun yet are given up. A microVM that could not be suspended before ctx ended is left running,
// for the next daemon to adopt; that is an error.
func (m *Manager) Shutdown(ctx context.Context) error {
	m.mu.Lock()
	if !m.shut {
		m.shut = true
		close(m.closing)
	}
	vms := make([]*vm, 0, len(m.vms))
	for _, v := range m.vms {
		vms = append(vms, v)
	}
	m.mu.Unlock()

	m.loose.Go(m.pool.close) // first: what is suspended now needs no warm processes
	results := make(chan error, len(vms))
	for _, v := range vms {
		go func() { results <- v.retire(ctx) }()
	}
	var failed []error
	for range vms {
		failed = append(failed, <-results)
	}
	m.stop(errClosing)
	m.actors.Wait()
	m.loose.Wait()
	return errors.Join(failed...)
}

// goLoose runs a task that nothing but Shutdown waits for; false when that has begun.
func (m *Manager) goLoose(task func()) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.shut {
		return false
	}
	m.loose.Go(task)
	return true
}

// admit waits for a slot: more launches, resumes and suspends at once than cores only make all of
// them slower, and hooks miss their timeouts. Where closing is given it ends the wait. The slot is
// given back by release, or after slotLimit.
func (m *Manager) admit(ctx context.Context, closing <-chan struct{}) (release func(), err error) {
	if closing != nil && isClosed(closing) {
		return nil, errClosing
	}
	select {
	case m.slots <- struct{}{}:
	case <-closing:
		return nil, errClosing
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	giveBack := sync.OnceFunc(func() { <-m.slots })
	timer := m.clock.AfterFunc(slotLimit, giveBack)
	return func() {
		timer.Stop()
		giveBack()
	}, nil
}
