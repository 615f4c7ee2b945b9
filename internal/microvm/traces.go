package microvm

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
	"github.com/dormouse-dev/dormouse/internal/vmm"
)

const (
	// lastLook bounds the reading of a console whose VMM is about to be ended.
	lastLook = time.Second
	// lookLimit bounds the reading of one whose VMM goes on: giving up breaks its monitor.
	lookLimit = 30 * time.Second
	// lookPatience is how long a reader of logs waits for an actor that is busy.
	lookPatience = 2 * time.Second
	// maxPrinted bounds what is read of a VMM's log at once, in bytes.
	maxPrinted = 256 << 10
)

// collect keeps what console and VMM have said, before a session is ended.
func (v *vm) collect(s running) {
	v.collectWithin(s, lastLook)
	v.count(s, true)
}

// collectNow does the same for the session that serves.
func (v *vm) collectNow() {
	if s := v.view.Load().session; s != nil {
		v.collectWithin(s, lookLimit)
	}
}

func (v *vm) collectWithin(s running, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	text, err := s.console(ctx)
	if err != nil && !errors.Is(err, vmm.ErrExited) {
		v.m.log.Warn("the console of a microVM cannot be read", "microvm", v.id, "error", err)
	}
	v.keepTrace(logfile.ConsoleName, text)
	text, err = s.printed()
	if err != nil {
		v.m.log.Warn("the log of a VMM cannot be read", "microvm", v.id, "error", err)
	}
	v.keepTrace(logfile.VMMName, text)
}

func (v *vm) keepTrace(name logfile.Name, text []byte) {
	if name == logfile.ConsoleName && loggroup.Disabled(v.view.Load().rec.WireLogging) {
		return // a guest writes there too
	}
	if err := v.m.cfg.Logs.Append(v.id, name, text); err != nil {
		v.m.log.Error("what a VMM told cannot be kept", "microvm", v.id, "error", err)
	}
}

func (s *session) console(ctx context.Context) ([]byte, error) { return s.machine.Console(ctx) }

// readFile in a run folder says how far the VMM's log was read, for a later daemon.
const readFile = "vmm.log.read"

// printed implements running. Of more than maxPrinted the newest part is returned.
func (s *session) printed() ([]byte, error) {
	file, err := os.Open(filepath.Join(s.run, vmm.LogFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if s.read == 0 {
		text, _ := os.ReadFile(filepath.Join(s.run, readFile))
		s.read, _ = strconv.ParseInt(string(text), 10, 64) // 0 where there is none
	}
	if info.Size() <= s.read {
		return nil, nil
	}
	from := max(s.read, info.Size()-maxPrinted)
	text := make([]byte, info.Size()-from)
	if _, err := file.ReadAt(text, from); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	s.read = info.Size()
	return text, os.WriteFile(filepath.Join(s.run, readFile), strconv.AppendInt(nil, s.read, 10), 0o600)
}

// Look brings the logs of console and VMM up to date, if the microVM runs and is not busy.
func (m *Manager) Look(ctx context.Context, id string) {
	v := m.live(id)
	if v == nil {
		return
	}
	c := command{kind: look, accepted: make(chan error, 1)}
	busy := m.clock.NewTimer(lookPatience)
	defer busy.Stop()
	sending := v.commands
	for {
		select {
		case sending <- c:
			sending = nil
		case err := <-c.accepted:
			_ = err // it was done, or the microVM is ending
			return
		case <-v.ended:
			return
		case <-busy.Chan():
			return
		case <-ctx.Done():
			return
		}
	}
}

// live returns a microVM that this manager runs, or nil.
func (m *Manager) live(id string) *vm {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.vms[id]
}
