package microvm

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
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

	ctx  context.Context // of fills, until close
	stop context.CancelFunc

	mu     sync.Mutex // guards all below, and the stocks
	closed bool
	stocks map[string]*stock // by image folder
	work   sync.WaitGroup    // fills and expiries; Add only while not closed
}

// stock is what the pool has for one image in use. Once it is out of the map nothing is added.
type stock struct {
	idle    []prepared
	filling bool
	uses    int // counts use
	expiry  clockwork.Timer
}

// prepared is a VMM process that waits for device state. Its disk is a copy of the image's in its run
// folder: a launch takes it over, a resume puts the microVM's own in its place.
type prepared struct {
	machine vmm.Machine
	run     string
}

func (w prepared) disk() string { return filepath.Join(w.run, snapshot.DiskFile) }

func newPool(driver vmm.Driver, runs string, size int, keep time.Duration, clock clockwork.Clock, log *slog.Logger) *pool {
	p := &pool{driver: driver, runs: runs, size: size, keep: keep, clock: clock, log: log, stocks: map[string]*stock{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// take returns a waiting process for the image, if there is one.
func (p *pool) take(image *snapshot.Image) (prepared, bool) {
	for {
		waiting, ok := p.pop(image.Dir)
		if !ok || !isClosed(waiting.machine.Done()) {
			return waiting, ok
		}
		waiting.discard() // it died while it waited
	}
}

func (p *pool) pop(key string) (prepared, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stocks[key]
	if s == nil || len(s.idle) == 0 {
		return prepared{}, false
	}
	last := len(s.idle) - 1
	waiting := s.idle[last]
	s.idle = s.idle[:last]
	return waiting, true
}

// start starts a process whose disk is a file of the caller's.
func (p *pool) start(ctx context.Context, image *snapshot.Image, disk string) (prepared, error) {
	run, err := newRun(p.runs)
	if err != nil {
		return prepared{}, err
	}
	config := machineConfig(image, run)
	config.Data = disk
	return p.startIn(ctx, config)
}

// prepare starts a process ahead of time.
func (p *pool) prepare(ctx context.Context, image *snapshot.Image) (prepared, error) {
	run, err := newRun(p.runs)
	if err != nil {
		return prepared{}, err
	}
	config := machineConfig(image, run)
	config.Ahead, config.Data = true, prepared{run: run}.disk()
	if err := snapshot.Clone(ctx, image.Path(snapshot.DiskFile), config.Data); err != nil {
		os.RemoveAll(run)
		return prepared{}, err
	}
	return p.startIn(ctx, config)
}

// startIn starts a process in a run folder, which it removes if that fails.
func (p *pool) startIn(ctx context.Context, config vmm.Config) (prepared, error) {
	machine, err := p.driver.Prepare(ctx, config)
	if err != nil {
		os.RemoveAll(config.Dir)
		return prepared{}, err
	}
	return prepared{machine: machine, run: config.Dir}, nil
}

// use tells that the image is in use: its processes are topped up in the background and kept for
// some time. It is called after a launch, suspend or resume, not during it.
func (p *pool) use(image *snapshot.Image) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.size == 0 {
		return
	}
	s := p.stocks[image.Dir]
	if s == nil {
		s = &stock{}
		p.stocks[image.Dir] = s
	} else {
		s.expiry.Stop()
	}
	s.uses++
	uses := s.uses
	s.expiry = p.clock.AfterFunc(p.keep, func() { p.expire(image.Dir, s, uses) })
	if !s.filling && len(s.idle) < p.size {
		s.filling = true
		p.work.Go(func() { p.fill(image, s) })
	}
}

func (p *pool) fill(image *snapshot.Image, s *stock) {
	for more := true; more; {
		ctx, cancel := context.WithTimeout(p.ctx, prepareLimit)
		waiting, err := p.prepare(ctx, image)
		cancel()
		if err != nil && p.ctx.Err() == nil {
			// A launch will meet the same error and report it to whoever asked.
			p.log.Warn("prepare a VMM ahead of time", "image", image.Dir, "error", err)
		}
		var unwanted bool
		if unwanted, more = p.put(image.Dir, s, waiting, err); unwanted {
			waiting.discard()
		}
	}
}

// put adds a process and tells whether it is unwanted instead, and whether another is wanted.
func (p *pool) put(key string, s *stock, waiting prepared, err error) (unwanted, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := p.stocks[key] == s
	if err == nil && wanted {
		s.idle = append(s.idle, waiting)
	}
	more = err == nil && wanted && len(s.idle) < p.size
	s.filling = more
	return err == nil && !wanted, more
}

// expire ends the processes of an image that was not used again since its expiry was set.
func (p *pool) expire(key string, s *stock, uses int) {
	p.mu.Lock()
	if p.closed || p.stocks[key] != s || s.uses != uses {
		p.mu.Unlock()
		return
	}
	delete(p.stocks, key)
	p.work.Add(1)
	p.mu.Unlock()
	defer p.work.Done()
	s.discard()
}

// forget ends the processes that wait for guests of the image in a folder.
func (p *pool) forget(key string) {
	p.mu.Lock()
	s := p.stocks[key]
	delete(p.stocks, key)
	p.mu.Unlock()
	if s != nil {
		s.discard()
	}
}

// close ends all waiting processes and returns when nothing of the pool runs any more. Processes
// can be taken all the same: they are then started one by one.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	stocks := p.stocks
	p.stocks = map[string]*stock{}
	p.mu.Unlock()
	p.stop()
	for _, s := range stocks {
		s.discard()
	}
	p.work.Wait()
}

// discard ends the processes of a stock that is out of the map.
func (s *stock) discard() {
	s.expiry.Stop()
	for _, waiting := range s.idle {
		waiting.discard()
	}
}

func (w prepared) discard() {
	_ = w.machine.Kill()
	_ = os.RemoveAll(w.run)
}
