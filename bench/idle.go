package main

import (
	"context"
	"time"
)

// idleWindow is how long the idle daemon is watched.
const idleWindow = 10 * time.Second

// idleDaemon is what the daemon takes while nobody asks it for anything.
type idleDaemon struct {
	rss int64         // bytes
	cpu time.Duration // in idleWindow
}

// watchIdle waits until the daemon is at rest and watches it.
func (b *bench) watchIdle(ctx context.Context) (idleDaemon, error) {
	if err := b.settle(ctx); err != nil {
		return idleDaemon{}, err
	}
	pid := b.daemon.pid()
	before := cpuTime(pid)
	select {
	case <-ctx.Done():
		return idleDaemon{}, ctx.Err()
	case <-time.After(idleWindow):
	}
	used := cpuTime(pid) - before
	rss, err := residentBytes(pid)
	return idleDaemon{rss: rss, cpu: used}, err
}
