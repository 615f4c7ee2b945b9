package microvm

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/logfile"
)

// watchDelay keeps the watching of the app off the path of the first request: opening a
// connection costs the guest time while its code is cold, and what the app writes or how it ends
// within the delay is not lost, because the agent keeps it. It also paces new tries.
const watchDelay = 5 * time.Second

// The agent does not tell when it has told everything, so that is taken from its silence.
const (
	// quietTime is how long an agent that has told something says nothing when there is nothing more.
	quietTime = 100 * time.Millisecond
	// firstTime is how long it may take to tell the first, if there is anything: its code is cold.
	firstTime = 500 * time.Millisecond
	// catchUpLimit bounds the wait for an app that writes without pause.
	catchUpLimit = time.Second
	catchUpPoll  = 10 * time.Millisecond
)

// maxRate bounds what of an app's output is written to the host's disk, in bytes per second. An app
// that writes more loses the rest in its VM, and the log says so.
const (
	maxRate  = 4 << 20
	lineCost = 64  // bytes that a line takes beyond its text: its time, and the work
	noteCost = 192 // bytes of the line that tells of lost output
)

// watcher keeps what the app writes while one session lasts, and reports to the actor when the app's
// main process ends.
type watcher struct {
	v     *vm
	s     running
	exits chan int      // of size 1
	hurry chan struct{} // of size 1: somebody does not want to wait for watchDelay
	done  chan struct{} // closed when nothing more comes

	hearing
}

// hearing is when an agent was listened to, and when it said something.
type hearing struct {
	opened atomic.Int64 // Unix nanoseconds, 0: not yet
	heard  atomic.Int64 // of the last event since then, 0: none
}

// watch begins to watch a session.
func (v *vm) watch(s running) {
	w := &watcher{v: v, s: s, exits: make(chan int, 1), hurry: make(chan struct{}, 1), done: make(chan struct{})}
	v.output.BeginAt(v.image.LoggedBytes) // which is open wherever there is a session
	v.appExit = w.exits
	v.watcher.Store(w)
	if v.readers.Load() > 0 { // or they find the watcher
		w.atOnce()
	}
	v.m.loose.Go(w.run)
}

// atOnce ends the delay.
func (w *watcher) atOnce() {
	select {
	case w.hurry <- struct{}{}:
	default:
	}
}

// run ends with the session.
func (w *watcher) run() {
	defer close(w.done)
	for {
		delay := w.v.m.clock.NewTimer(watchDelay)
		select {
		case <-delay.Chan():
		case <-w.hurry:
		case <-w.s.networkDone():
			delay.Stop()
			return
		case <-w.v.m.running.Done(): // not the microVM's life: its last words count
			delay.Stop()
			return
		}
		delay.Stop()
		if code, ended := w.listen(); ended {
			w.exits <- code
			return
		}
	}
}

// listen returns when the app has ended, or with false when the agent cannot tell: a guest that is busy
// may refuse or lose the connection. Each connection begins with everything that the agent still has.
func (w *watcher) listen() (code int, ended bool) {
	w.heard.Store(0)
	w.opened.Store(w.now())
	var position int64 // bytes the app wrote before what comes next
	pace := pace{began: w.v.m.clock.Now()}
	for event, err := range w.s.events(w.v.m.running) {
		if err != nil {
			break // if the VMM died, the actor sees that itself
		}
		w.heard.Store(w.now())
		if event.Exit != nil {
			return event.Exit.Code, true
		}
		if event.Log.Dropped < 0 {
			break
		}
		position += event.Log.Dropped
		if !w.keep(position, event.Log) {
			break
		}
		position += int64(len(event.Log.Data))
		if pause := pace.after(w.v.m.clock.Now(), event.Log); pause > 0 && !w.rest(pause) {
			break
		}
	}
	return 0, false
}

// pace is how much was written in the present second.
type pace struct {
	began time.Time
	spent int
}

// after counts what was written and tells how long to write nothing.
func (p *pace) after(now time.Time, piece *guest.LogEvent) time.Duration {
	if now.Sub(p.began) >= time.Second {
		*p = pace{began: now}
	}
	if piece.Dropped > 0 {
		p.spent += noteCost
	}
	if p.spent += len(piece.Data) + lineCost*(1+bytes.Count(piece.Data, []byte("\n"))); p.spent < maxRate {
		return 0
	}
	return p.began.Add(time.Second).Sub(now)
}

// rest waits, or tells that the session has ended meanwhile.
func (w *watcher) rest(d time.Duration) bool {
	timer := w.v.m.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return true
	case <-w.s.networkDone():
	case <-w.v.m.running.Done():
	}
	return false
}

// keep writes a piece of output to the log. It tells whether the guest may be listened to further.
func (w *watcher) keep(position int64, piece *guest.LogEvent) bool {
	err := w.v.output.Append(position, piece.Stream, time.Unix(0, piece.UnixNanos), piece.Data)
	if errors.Is(err, logfile.ErrNonsense) {
		return false
	}
	if err != nil { // a full disk is no fault of the microVM
		w.v.m.log.Error("the output of a microVM cannot be kept", "microvm", w.v.id, "error", err)
	}
	return true
}

func (w *watcher) now() int64 { return w.v.m.clock.Now().UnixNano() }

// catchUp returns when all that the app has written by now has come, as far as one can tell.
func (w *watcher) catchUp(ctx context.Context) {
	w.atOnce()
	began := w.now()
	for !w.upToDate(began, w.now()) {
		select {
		case <-w.v.m.clock.After(catchUpPoll):
		case <-w.done:
			return
		case <-w.s.vmmDone():
			return
		case <-ctx.Done():
			return
		}
	}
}

// upToDate tells whether all has come that the app had written when somebody began to wait for it.
func (h *hearing) upToDate(began, now int64) bool {
	opened, heard := h.opened.Load(), h.heard.Load()
	switch {
	case now-began >= int64(catchUpLimit):
		return true
	case opened == 0 || heard == 0 && now-opened < int64(firstTime):
		return false
	default:
		return now-max(began, heard) >= int64(quietTime)
	}
}

// drain takes in what the app of a watched session has still to say, before that is ended.
func (v *vm) drain(s running) {
	if w := v.watcher.Load(); w != nil && w.s == s {
		w.catchUp(v.m.running)
	}
}

// settle makes durable what a microVM wrote that has been suspended, because its saved state is. It follows
// the end of the VMM, and no wake waits for it.
func (v *vm) settle(s running, gone <-chan struct{}) {
	<-gone
	if w := v.watcher.Load(); w != nil && w.s == s {
		<-w.done
	}
	if err := v.output.Settle(); err != nil {
		v.m.log.Error("the output of a microVM may be lost with the host's power", "microvm", v.id, "error", err)
	}
}

// Listen has the output of a microVM's app kept as soon as it comes, also right after a wake, until
// stop is called.
func (m *Manager) Listen(id string) (stop func()) {
	v := m.live(id)
	if v == nil {
		return func() {}
	}
	v.readers.Add(1) // before the look for a watcher
	if w := v.watcher.Load(); w != nil {
		w.atOnce()
	}
	return func() { v.readers.Add(-1) }
}

// CatchUp returns when what the app of a running microVM has written by now was kept, as far as one
// can tell.
func (m *Manager) CatchUp(ctx context.Context, id string) {
	if v := m.live(id); v != nil {
		if w := v.watcher.Load(); w != nil && v.view.Load().session == w.s {
			w.catchUp(ctx)
		}
	}
}
