package microvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

const (
	// adoptLimit bounds how long one VMM may take to tell whether its guest runs. It is generous,
	// because one that takes longer is ended; a healthy one takes milliseconds.
	adoptLimit = 30 * time.Second
	// adoptions is how many are asked at once.
	adoptions = 8
)

// survivor is a session of an earlier daemon, not connected yet.
type survivor struct {
	session
	owner  string                 // microVM id
	before [guest.SecretSize]byte // the agent's secret if it was not told the new one yet
	vmm    vmmState
}

// survivors finds the VMM processes an earlier daemon left, by microVM. Those of helpers, of
// nobody, and those that nobody can talk to are ended here.
func (m *Manager) survivors(ctx context.Context) (map[string]*survivor, error) {
	folders, err := os.ReadDir(m.runsDir())
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards found
	found := map[string]*survivor{}
	var asking errgroup.Group
	asking.SetLimit(adoptions)
	for _, folder := range folders {
		asking.Go(func() error {
			s := m.survivor(ctx, filepath.Join(m.runsDir(), folder.Name()))
			if s == nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			other := found[s.owner]
			if other == nil || s.vmm == moving {
				found[s.owner], s = s, other
			}
			if s != nil {
				// Of two VMMs of one microVM, one was saved and about to be ended when the other started.
				s.end()
			}
			return nil
		})
	}
	return found, asking.Wait()
}

// survivor takes over the VMM in a run folder. Where there is none that somebody owns, nothing stays.
func (m *Manager) survivor(ctx context.Context, run string) *survivor {
	// Not cut short with the daemon's start: a VMM that cannot be taken over is ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), adoptLimit)
	defer cancel()
	machine, err := m.cfg.Driver.Adopt(ctx, run)
	if err != nil {
		if !errors.Is(err, vmm.ErrExited) {
			m.log.Warn("a VMM left by an earlier run cannot be taken over", "run", run, "error", err)
		}
		if err := os.RemoveAll(run); err != nil {
			m.log.Error("a run folder cannot be removed", "run", run, "error", err)
		}
		return nil
	}
	s := &survivor{session: session{machine: machine, run: run}, vmm: moving}
	owner, err := readOwner(run)
	if err != nil || owner.MicroVM == "" {
		s.end()
		return nil
	}
	s.owner = owner.MicroVM
	copy(s.secret[:], owner.Secret)
	copy(s.before[:], owner.Before)
	still, err := machine.Paused(ctx)
	if err != nil {
		m.log.Warn("a VMM left by an earlier run does not tell how it is", "run", run, "microvm", s.owner, "error", err)
		s.end()
		return nil
	}
	if still {
		s.vmm = paused
	}
	return s
}
