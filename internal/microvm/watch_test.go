package microvm

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// said is what a microVM's app has said according to its log, without times.
func (w *world) appLog(id string) (lines []string) {
	w.t.Helper()
	log, err := logfile.Open(w.cfg.Logs.Path(id, logfile.AppName), nil)
	require.NoError(w.t, err)
	defer log.Close()
	text, err := io.ReadAll(logfile.NewText(log))
	require.NoError(w.t, err)
	for line := range strings.Lines(string(text)) {
		_, said, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		lines = append(lines, strings.TrimPrefix(said, "stdout "))
	}
	return lines
}

// opened is when the agent of the last guest was asked for events, after its start.
func (w *world) opened(since time.Time) time.Duration {
	return read(w.guests, &w.guests.last().opened).Sub(since)
}

func TestWhatAnAppWritesIsInItsLogOnceWhateverIsSuspendedAndRestarted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.guests.journal.write("one\n")
		w.passes(watchDelay + time.Second)
		w.guests.journal.write("two\nhalf of ")
		w.settles()
		require.Equal(t, []string{"one", "two"}, w.appLog(id), "while it runs")

		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		require.NoError(t, w.Resume(t.Context(), id))
		w.becomes(id, store.VMRunning)
		w.guests.journal.write("three\n")
		w.passes(watchDelay + time.Second)
		require.Equal(t, []string{"one", "two", "half of three"}, w.appLog(id), "after a wake")

		w.guests.journal.write("four\n")
		w.passes(time.Second)
		told := w.guests.journal.pieces
		w.close()
		w.openWith(func(g *guests) { g.journal.pieces = told })
		require.NoError(t, w.Resume(t.Context(), id))
		w.becomes(id, store.VMRunning)
		w.guests.journal.write("five\n")
		w.passes(watchDelay + time.Second)
		want := []string{"one", "two", "half of three", "four", "five"}
		require.Equal(t, want, w.appLog(id), "after a restart")

		w.guests.journal.write("six\n")
		require.NoError(t, w.Terminate(t.Context(), id))
		w.becomes(id, store.VMTerminated)
		require.Equal(t, append(want, "six"), w.appLog(id), "after the end")
	})
}

func TestAnAgentIsLeftAloneAfterALaunchOrWakeUnlessSomebodyListens(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		began := time.Now()
		id := w.run(nil)
		running := time.Since(began)
		w.passes(watchDelay)
		require.Equal(t, running+watchDelay, w.opened(began))

		w.suspendAndWake(id)
		woken := time.Now()
		w.passes(time.Second)
		require.True(t, read(w.guests, &w.guests.last().opened).IsZero())
		stop := w.Listen(id)
		w.settles()
		require.Equal(t, time.Second, w.opened(woken), "as soon as somebody does")

		w.suspendAndWake(id)
		woken = time.Now()
		w.settles()
		require.Zero(t, w.opened(woken), "who still does")

		stop()
		w.suspendAndWake(id)
		w.passes(watchDelay - time.Millisecond)
		require.True(t, read(w.guests, &w.guests.last().opened).IsZero(), "until nobody does")
	})
}

func (w *world) suspendAndWake(id string) {
	w.t.Helper()
	require.NoError(w.t, w.Suspend(w.t.Context(), id))
	w.becomes(id, store.VMSuspended)
	require.NoError(w.t, w.Resume(w.t.Context(), id))
	w.becomes(id, store.VMRunning)
}

func TestTheLastWordsOfAnAppAreKeptAndDelayItsEndForAMomentOnly(t *testing.T) {
	for name, c := range map[string]struct {
		says  []string
		waits time.Duration // before the end
		most  time.Duration
	}{
		"right after the launch": {[]string{"hello"}, 0, quietTime + 5*catchUpPoll},
		"long after":             {[]string{"hello"}, time.Minute, quietTime + 2*catchUpPoll},
		"with nothing to say":    {nil, 0, firstTime + 2*catchUpPoll},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				id := w.run(nil)
				for _, line := range c.says {
					w.guests.journal.write(line + "\n")
				}
				w.passes(c.waits)
				began := time.Now()
				require.NoError(t, w.Terminate(t.Context(), id))
				require.Zero(t, time.Since(began))
				w.becomes(id, store.VMTerminated)
				require.LessOrEqual(t, time.Since(began), c.most)
				require.Equal(t, c.says, w.appLog(id))
			})
		})
	}
}

func TestAnAppThatNeverStopsWritingIsEndedAllTheSame(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		done := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-time.After(10 * time.Millisecond):
					w.guests.journal.write("again\n")
				case <-done:
					return
				}
			}
		}()
		w.passes(time.Minute)
		began := time.Now()
		require.NoError(t, w.Terminate(t.Context(), id))
		w.becomes(id, store.VMTerminated)
		require.LessOrEqual(t, time.Since(began), catchUpLimit+2*catchUpPoll)
		close(done)
		<-stopped
	})
}

func TestWhatAnAppSaysOfALaunchThatItsHookRefusesIsKept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("run")
		w.guests.spoil(func(g *guests) { g.answers["run"] = answer{status: 500} })
		w.guests.journal.write("cannot open the database\n")
		id := w.launch(nil)
		w.becomes(id, store.VMTerminated)
		require.Equal(t, []string{"cannot open the database"}, w.appLog(id))
	})
}

func TestOutputThatTheAgentHadNoRoomForIsNoted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.guests.journal.write("one\n")
		w.guests.journal.add(&guest.LogEvent{Stream: "stderr", Data: []byte("later\n"), Dropped: 4711})
		w.passes(watchDelay + time.Second)
		require.Equal(t, []string{
			"one", "dormouse [4711 bytes of output were lost here: the app wrote more than its VM could keep]", "stderr later",
		}, w.appLog(id))
	})
}

func TestAGuestThatTellsNonsenseLosesItsLogAndNothingElse(t *testing.T) {
	for name, piece := range map[string]*guest.LogEvent{
		"stream":   {Stream: "dormouse", Data: []byte("[all is well]\n")},
		"backward": {Stream: "stdout", Data: []byte("x\n"), Dropped: -5},
		"far":      {Stream: "stdout", Data: []byte("x\n"), Dropped: 1<<63 - 1},
		"huge":     {Stream: "stdout", Data: bytes.Repeat([]byte("x"), 33<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				id := w.run(nil)
				w.guests.journal.add(piece)
				w.passes(time.Minute)
				require.Empty(t, w.appLog(id))
				w.suspendAndWake(id)
				require.NoError(t, w.Terminate(t.Context(), id))
				w.becomes(id, store.VMTerminated)
			})
		})
	}
}

func TestAnAppThatFloodsItsLogIsHeldUpAndItsMicroVMIsNot(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		for range 10 * maxRate / (32 << 10) {
			w.guests.journal.add(&guest.LogEvent{Stream: "stdout", Data: bytes.Repeat([]byte("x"), 32<<10)})
		}
		w.passes(watchDelay + 5*time.Second)
		log, err := os.Stat(w.cfg.Logs.Path(id, logfile.AppName))
		require.NoError(t, err)
		require.Positive(t, log.Size())
		position, err := os.ReadFile(filepath.Join(filepath.Dir(w.cfg.Logs.Path(id, logfile.AppName)), "app.position"))
		require.NoError(t, err)
		var written int64
		_, err = fmt.Sscanf(string(position), "%d", &written)
		require.NoError(t, err)
		require.InDelta(t, 5*maxRate, written, maxRate)
		began := time.Now()
		require.NoError(t, w.Terminate(t.Context(), id))
		w.becomes(id, store.VMTerminated)
		require.LessOrEqual(t, time.Since(began), catchUpLimit+2*catchUpPoll)
	})
}

func TestAGuestThatTellsOfLostOutputPaysForTheNotes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		for range maxRate / lineCost {
			w.guests.journal.add(&guest.LogEvent{Stream: "stdout", Dropped: 1, Data: []byte("x")})
		}
		w.passes(watchDelay + time.Second/2)
		written := int64(0)
		for _, part := range []string{"", ".1"} {
			if log, err := os.Stat(w.cfg.Logs.Path(id, logfile.AppName) + part); err == nil {
				written += log.Size()
			}
		}
		require.InDelta(t, maxRate, written, maxRate/2)
	})
}

func TestASleepingMicroVMKeepsNoFileOpen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		w.guests.journal.write("one\n")
		w.passes(watchDelay + time.Second)
		open := func() (names []string) {
			links, err := filepath.Glob("/proc/self/fd/*")
			require.NoError(t, err)
			for _, link := range links {
				if target, err := os.Readlink(link); err == nil && filepath.Dir(target) == filepath.Join(w.dir, "logs", id) {
					names = append(names, filepath.Base(target))
				}
			}
			return names
		}
		require.ElementsMatch(t, []string{"app.log", "app.position"}, open())
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		w.settles()
		require.Empty(t, open())
		require.NoError(t, w.Resume(t.Context(), id))
		w.guests.journal.write("two\n")
		w.passes(watchDelay + time.Second)
		require.Equal(t, []string{"one", "two"}, w.appLog(id))
	})
}

func TestAHostWithoutRoomForLogsRunsMicroVMsAllTheSame(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		require.NoError(t, os.WriteFile(filepath.Join(w.dir, "logs"), nil, 0o600)) // where the folder should be
		id := w.run(nil)
		w.guests.journal.write("one\n")
		w.guests.spoil(func(g *guests) { g.consoleSays, g.vmmSays = "a", "b" })
		w.passes(watchDelay + time.Second)
		w.suspendAndWake(id)
		require.NoError(t, os.Remove(filepath.Join(w.dir, "logs")))
		w.guests.journal.write("two\n")
		w.passes(watchDelay + time.Second)
		require.Equal(t, []string{"one", "two"}, w.appLog(id), "the agent still had it")
		require.NoError(t, w.Terminate(t.Context(), id))
		w.becomes(id, store.VMTerminated)
	})
}

func TestTheLogBeginsWhereThatOfTheBuildEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		image, err := w.image(w.version)
		require.NoError(t, err)
		image.LoggedBytes = int64(len("baked\n"))
		w.keep(image)
		w.guests.journal.write("baked\nlaunched\n")
		id := w.run(nil)
		w.passes(watchDelay + time.Second)
		require.Equal(t, []string{"launched"}, w.appLog(id))
	})
}

func TestOfAMicroVMWithoutLoggingNothingIsKept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(func(vm *store.MicroVM) { vm.WireLogging = []byte(`{"disabled":{},"cloudWatch":null}`) })
		w.guests.journal.write("secret\n")
		w.passes(watchDelay + time.Second)
		w.suspendAndWake(id)
		w.passes(watchDelay + time.Second)
		w.tells("guest", "vmm")
		w.Look(t.Context(), id)
		require.NoError(t, w.Terminate(t.Context(), id))
		w.becomes(id, store.VMTerminated)
		require.FileExists(t, w.cfg.Logs.Path(id, logfile.VMMName), "which is the host's own")
		require.NoFileExists(t, w.cfg.Logs.Path(id, logfile.AppName))
		require.NoFileExists(t, w.cfg.Logs.Path(id, logfile.ConsoleName))
	})
}
