package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"
)

// Bounds of what is waited for. They are for a slow machine under load, not what users wait:
// without hardware virtualization a build takes about a minute, everything else seconds.
const (
	buildLimit = 8 * time.Minute
	stateLimit = 2 * time.Minute
	pollEvery  = 50 * time.Millisecond
)

// room is how many VMs run at once. A build counts for two: its builder and what it boots.
var room = semaphore.NewWeighted(4)

const buildRoom = 2

// takeRoom waits until so many VMs may run, until the test ends. A test takes all it needs at
// once, so that no two tests wait for each other.
func takeRoom(t *testing.T, vms int64) {
	t.Helper()
	require.NoError(t, room.Acquire(context.Background(), vms))
	t.Cleanup(func() { room.Release(vms) })
}

// eventually polls until done, which also tells what it saw.
func eventually(t *testing.T, limit time.Duration, what string, done func() (ok bool, saw any)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		ok, saw := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			require.FailNowf(t, what, "not within %v; last seen: %v", limit, saw)
		}
		time.Sleep(pollEvery)
	}
}
