package microvm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
	"github.com/dormouse-dev/dormouse/internal/vmm"
	"github.com/dormouse-dev/dormouse/internal/vmm/vmmtest"
)

// trace is a log of a microVM that is not its app's.
func (w *world) trace(id string, name logfile.Name) string {
	text, err := os.ReadFile(w.cfg.Logs.Path(id, name))
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(w.t, err)
	}
	return string(text)
}

func (w *world) tells(console, vmm string) {
	w.guests.spoil(func(g *guests) { g.consoleSays, g.vmmSays = console, vmm })
}

func TestConsoleAndVMMLogAreKeptOnRequestAtASuspendAndAtTheEnd(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.tells("asked\n", "warning\n")
		w.settles()
		require.Empty(t, w.trace(id, logfile.ConsoleName))
		w.Look(t.Context(), id)
		require.Equal(t, "asked\n", w.trace(id, logfile.ConsoleName))
		require.Equal(t, "warning\n", w.trace(id, logfile.VMMName))
		w.tells("suspended\n", "")
		w.suspendAndWake(id)
		w.tells("ended\n", "")
		require.NoError(t, w.Terminate(t.Context(), id))
		w.becomes(id, store.VMTerminated)
		require.Equal(t, "asked\nsuspended\nended\n", w.trace(id, logfile.ConsoleName))
	})
}

func TestTheLastWordsOfAVMMThatDiedAreKept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.tells("lost with it\n", "qemu: assertion failed\n")
		w.guests.last().die()
		w.becomes(id, store.VMTerminated)
		require.Equal(t, "qemu: assertion failed\n", w.trace(id, logfile.VMMName))
		require.Empty(t, w.trace(id, logfile.ConsoleName))
	})
}

func TestALookAtABusyOrAbsentMicroVMEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("suspend")
		w.guests.spoil(func(g *guests) { g.answers["suspend"] = answer{status: 200, after: 9 * time.Second} })
		id := w.run(nil)
		require.NoError(t, w.Suspend(t.Context(), id))
		began := time.Now()
		w.Look(t.Context(), id)
		require.Equal(t, lookPatience, time.Since(began))
		w.Look(t.Context(), "microvm-none")
		w.becomes(id, store.VMSuspended)
		w.Look(t.Context(), id)
	})
}

func TestAStartThatFailsShowsItsSessionBeforeItIsEnded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.driver.Spoil = func(m *vmmtest.Machine) {
			m.Fail = map[string]error{"Load": errors.New("refused")}
			require.NoError(t, os.WriteFile(filepath.Join(m.Config.Dir, vmm.LogFile), []byte("unknown section\n"), 0o600))
		}
		image, err := w.image(w.version)
		require.NoError(t, err)
		var said []byte
		from := origin{image: image, disk: filepath.Join(w.dir, "disk.img"), failed: func(s running) { said, _ = s.printed() }}
		_, _, err = w.launcher.start(t.Context(), from, telemetry.Begin(w.clock, "queue"))
		require.ErrorContains(t, err, "refused")
		require.Equal(t, "unknown section\n", string(said))
	})
}

func TestAVMMsLogIsReadOnceAlsoByALaterDaemon(t *testing.T) {
	run := t.TempDir()
	print := func(text string) {
		log, err := os.OpenFile(filepath.Join(run, vmm.LogFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = log.WriteString(text)
		require.NoError(t, errors.Join(err, log.Close()))
	}
	reads := func(s *session, want string) {
		t.Helper()
		text, err := s.printed()
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	s := &session{run: run}
	reads(s, "")
	print("one\n")
	reads(s, "one\n")
	print("two\n")
	reads(s, "two\n")
	later := &session{run: run}
	reads(later, "")
	print("three\n")
	reads(later, "three\n")
}
