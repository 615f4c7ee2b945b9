package microvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"sync/atomic"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// vm is one microVM: its record, its session while it runs, and the actor that changes both.
type vm struct {
	m       *Manager
	id      string
	version store.ImageVersion
	dir     string

	commands chan command
	knocks   chan struct{} // of size 1: somebody waits for a SUSPENDED VM
	view     atomic.Pointer[view]

	folderSynced atomic.Bool  // the folder's own entry is durable
	lastTraffic  atomic.Int64 // Unix nanoseconds
	gate         *gate        // requests that wait for the VM or are inside

	metadata  netstack.Handler // its metadata service, over suspends; nil: none
	processes processes        // shells and commands of its clients

	traffic traffic
	names   netstack.Names // what the guest knows of names
	denials denials

	output  *logfile.App            // what the app writes
	watcher atomic.Pointer[watcher] // of the present session, or of the last one
	readers atomic.Int64            // those who wait for what the app writes
	counted counted                 // what of its network was added to the manager's totals

	// life ends when the microVM is to be terminated, with the doom as its cause, or when the
	// manager's does. It cuts a launch, suspend or resume short; what is doomed stays so.
	life  context.Context
	doom  context.CancelCauseFunc
	ended chan struct{} // closed when nothing changes the microVM any more

	// Only the actor uses these.
	image      *snapshot.Image // nil until it is needed, for a VM of an earlier daemon
	generation uint64
	appExit    <-chan int
	survivor   *survivor       // VMM of an earlier daemon, to be adopted
	before     <-chan struct{} // closed when the VMM that was suspended last has ended; nil: there was none
	unrecorded *store.Event    // of a state that is shown and could not be recorded
}

// view is what others see of a microVM. It never changes: a change makes a new one and closes changed
// of the old one.
type view struct {
	rec        store.MicroVM
	session    running // nil unless it serves
	generation uint64
	wakeErr    error // why the last wake failed, or its hook
	changed    chan struct{}
}

func newView(rec store.MicroVM) *view {
	return &view{rec: rec, changed: make(chan struct{})}
}

// newVM makes a microVM of which nobody knows yet.
func newVM(m *Manager, rec store.MicroVM, version store.ImageVersion, image *snapshot.Image) *vm {
	v := &vm{
		m: m, id: rec.ID, version: version, image: image, dir: filepath.Join(m.vmsDir(), rec.ID),
		commands: make(chan command), knocks: make(chan struct{}, 1), ended: make(chan struct{}),
		output: m.cfg.Logs.App(rec.ID), metadata: m.metadata(IdentityOf(rec)),
	}
	if loggroup.Disabled(rec.WireLogging) {
		v.output.Discard()
	}
	v.life, v.doom = context.WithCancelCause(m.running)
	v.denials.v = v
	v.traffic.goOnFrom(rec.Traffic)
	v.gate = newGate(v)
	v.publish(newView(rec))
	v.touch()
	return v
}

// close lets go of a microVM that has been entered and that nothing changes any more.
func (v *vm) close() {
	v.doom(nil)
	close(v.ended)
	if v.over() {
		v.gate.close(ErrGone)
	} else {
		v.gate.close(errors.Join(ErrWakeFailed, errClosing))
	}
	v.m.actors.Done()
}

// setAddr completes the record of a microVM of which nobody knows yet.
func (v *vm) setAddr(addr netip.Addr) {
	rec := v.view.Load().rec
	rec.EndpointAddr = addr.String()
	v.publish(newView(rec))
}

func (v *vm) touch() { v.lastTraffic.Store(v.m.clock.Now().UnixNano()) }

// The files of a microVM.
func (v *vm) disk() string       { return filepath.Join(v.dir, snapshot.DiskFile) }
func (v *vm) checkpoint() string { return filepath.Join(v.dir, "checkpoint") }

// resuming is the name of a checkpoint whose guest is about to run again: it must not be gone
// back to, because the disk has moved on.
func (v *vm) resuming() string { return v.checkpoint() + ".resuming" }

// syncFolder makes durable that the microVM has a folder. A checkpoint in it is worth nothing before.
func (v *vm) syncFolder() {
	if err := snapshot.SyncDir(v.m.vmsDir()); err != nil {
		return // the suspend tries again, and reports it
	}
	v.folderSynced.Store(true)
}

// syncFiles makes durable that a checkpoint is not there (under its name) any more. It runs beside
// the guest: what that writes from now on reaches the host's disk much later.
func (v *vm) syncFiles() {
	if err := snapshot.SyncDir(v.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.m.log.Error("the folder of a microVM cannot be synced", "microvm", v.id, "error", err)
	}
}

func (v *vm) state() string { return v.view.Load().rec.State }

func (v *vm) over() bool { return v.state() == store.VMTerminated }

// change records a new state and shows it. rec.State must be the new state.
func (v *vm) change(rec store.MicroVM, s running, e store.Event) error {
	before := v.state()
	if !legal(before, rec.State) {
		return fmt.Errorf("microVM %s: %s → %s is not a legal change", v.id, before, rec.State)
	}
	e.Subject, e.From, e.To, e.At = v.id, before, rec.State, v.m.clock.Now()
	if err := v.record(rec, e); err != nil {
		return err
	}
	v.show(rec, s, nil)
	return nil
}

// record writes a state and its event. An earlier write that failed has left the row behind what
// is shown: it is then moved on from where it is, so that one failure does not make all that follow fail.
func (v *vm) record(rec store.MicroVM, e store.Event) error {
	// It is written even while the daemon is told to end: half a change is worse.
	ctx := context.Background()
	rec.Traffic = v.traffic.totals()
	err := v.m.cfg.Records.TransitionMicroVM(ctx, rec, e.From, e)
	if errors.Is(err, store.ErrConflict) {
		row, readErr := v.m.cfg.Records.MicroVM(ctx, v.id)
		if readErr != nil || row.State == store.VMTerminated {
			return errors.Join(err, readErr)
		}
		err = v.m.cfg.Records.TransitionMicroVM(ctx, rec, row.State, e)
	}
	if err == nil {
		v.unrecorded = nil
	}
	return err
}

// show publishes a view and wakes everybody who waits for a change.
func (v *vm) show(rec store.MicroVM, s running, wakeErr error) {
	before, now := v.view.Load(), newView(rec)
	now.session, now.generation, now.wakeErr = s, v.generation, wakeErr
	v.publish(now)
	close(before.changed)
}

func (v *vm) publish(now *view) {
	v.view.Store(now)
	v.gate.turn(now)
}

func (v *vm) event(c command, operation string) store.Event {
	return store.Event{Operation: operation, Cause: c.cause, RequestID: c.requestID, Detail: c.detail}
}

// logFailure is the edge where what went wrong inside the daemon is logged, once.
func (v *vm) logFailure(operation string, c command, err error) {
	v.m.log.Error("microVM "+operation+" failed", "microvm", v.id, "cause", c.cause, "request", c.requestID, "error", err)
}
