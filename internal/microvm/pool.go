package microvm

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// prepareLimit bounds the start of one VMM process; it takes some ten milliseconds.
const prepareLimit = 30 * time.Second

// pool keeps VMM processes that wait for device state, so that starting one is not on the path
// of a launch or a resume. A process serves any guest of its image, new or suspended.
type pool struct {
	driver vmm.Driver
	runs   string
	size   int           // processes to keep per image in use
	keep   time.Duration // how long an image counts as in use after its last launch, suspend or resume
	clock  clockwork.Clock
	log    *slog.Logger

	mu      sync.Mutex // guards all below
	idle    map[string][]prepared
	filling map[string]bool
	expiry  map[string]clockwork.Timer
	closed  bool
	fills   sync.WaitGroup
}

// prepared is a VMM process that waits for device state.
type prepared struct {
	machine vmm.Machine
	run     string
}

func newPool(driver vmm.Driver, runs string, size int, keep time.Duration, clock clockwork.Clock, log *slog.Logger) *pool {
	return &pool{
		driver: driver, runs: runs, size: size, keep: keep, clock: clock, log: log,
		idle: map[string][]prepared{}, filling: map[string]bool{}, expiry: map[string]clockwork.Timer{},
	}
}

// take returns a waiting process for the image, or starts one.
func (p *pool) take(ctx context.Context, image *snapshot.Image) (prepared, error) {
	for {
		waiting, ok := p.pop(image.Dir)
		if !ok {
			return p.prepare(ctx, image)
		}
		select {
		case <-waiting.machine.Done(): // died while it waited
			waiting.discard()
		default:
			return waiting, nil
		}
	}
}

func (p *pool) pop(key string) (prepared, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[key]
	if len(list) == 0 {
		return prepared{}, false
	}
	p.idle[key] = list[:len(list)-1]
	return list[len(list)-1], true
}

func (p *pool) prepare(ctx context.Context, image *snapshot.Image) (prepared, error) {
	run, err := newRun(p.runs)
	if err != nil {
		return prepared{}, err
	}
	machine, err := p.driver.Prepare(ctx, machineConfig(image, run))
	if err != nil {
		os.RemoveAll(run)
		return prepared{}, err
	}
	return prepared{machine: machine, run: run}, nil
}

// use tells that the image is in use: its processes are topped up in the background and kept for
// some time. It is called after a launch, suspend or resume, not during it.
func (p *pool) use(image *snapshot.Image) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.size == 0 {
		return
	}
	if timer, ok := p.expiry[image.Dir]; ok {
		timer.Stop()
	}
	p.expiry[image.Dir] = p.clock.AfterFunc(p.keep, func() { p.Forget(image.Dir) })
	if !p.filling[image.Dir] && len(p.idle[image.Dir]) < p.size {
		p.filling[image.Dir] = true
		p.fills.Add(1)
		go p.fill(image)
	}
}

func (p *pool) fill(image *snapshot.Image) {
	defer p.fills.Done()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), prepareLimit)
		waiting, err := p.prepare(ctx, image)
		cancel()
		if err != nil {
			// A launch will meet the same error and report it to whoever asked.
			p.log.Warn("prepare a VMM ahead of time", "image", image.Dir, "err", err)
		}
		if !p.put(image.Dir, waiting, err) {
			return
		}
	}
}

// put adds a process and tells whether another is wanted.
func (p *pool) put(key string, waiting prepared, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, inUse := p.expiry[key]
	if err == nil && (p.closed || !inUse) {
		go waiting.discard()
	} else if err == nil {
		p.idle[key] = append(p.idle[key], waiting)
	}
	more := err == nil && !p.closed && inUse && len(p.idle[key]) < p.size
	if !more {
		delete(p.filling, key)
	}
	return more
}

// Forget ends the processes that wait for guests of the image in a folder.
func (p *pool) Forget(key string) {
	p.mu.Lock()
	list := p.idle[key]
	delete(p.idle, key)
	if timer, ok := p.expiry[key]; ok {
		timer.Stop()
		delete(p.expiry, key)
	}
	p.mu.Unlock()
	for _, waiting := range list {
		waiting.discard()
	}
}

// close ends all waiting processes.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	keys := make([]string, 0, len(p.expiry))
	for key := range p.expiry {
		keys = append(keys, key)
	}
	p.mu.Unlock()
	p.fills.Wait()
	for _, key := range keys {
		p.Forget(key)
	}
}

func (w prepared) discard() {
	_ = w.machine.Kill()
	_ = os.RemoveAll(w.run)
}
