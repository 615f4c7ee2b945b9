package microvm

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/store"
	"github.com/dormouse-dev/dormouse/internal/vmm/vmmtest"
)

// agent is what answers in a guest. What it does not know how to answer it never answers.
type agent struct {
	hook    func(guest.HookRequest) *guest.HookReply // nil: no answer
	forward func() *guest.ForwardStatus              // nil: no answer
	events  func(conn net.Conn)
	restore func(guest.RestoreRequest) *guest.RestoreReply // nil: no answer

	mu    sync.Mutex
	asked []time.Time // for hooks
}

// session returns a session whose agent this is. All of it ends with the test.
func (a *agent) session(t *testing.T) *session {
	var conns sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			c.Close()
		}
		conns.Wait()
	})
	return &session{client: guest.New(func(context.Context, uint16) (net.Conn, error) {
		host, inside := net.Pipe()
		mu.Lock()
		defer mu.Unlock()
		open = append(open, inside)
		conns.Go(func() {
			defer inside.Close()
			a.serve(inside)
		})
		return host, nil
	}, [guest.SecretSize]byte{})}
}

func (a *agent) serve(conn net.Conn) {
	preamble := make([]byte, guest.PreambleSize)
	if _, err := io.ReadFull(conn, preamble); err != nil {
		return
	}
	p, err := guest.ParsePreamble(preamble)
	if err != nil {
		return
	}
	switch {
	case p.Op == guest.OpEvents && a.events != nil:
		a.events(conn)
		return
	case p.Op == guest.OpRestore && a.restore != nil:
		a.serveRestore(conn)
	case p.Op == guest.OpForward && a.forward != nil:
		if status := a.forward(); status != nil {
			_, _ = conn.Write([]byte{byte(*status)})
		}
	case p.Op == guest.OpHook && a.hook != nil:
		frame, err := guest.ReadFrame(conn)
		if err != nil {
			return
		}
		request, err := guest.ParseHookRequest(frame)
		if err != nil {
			return
		}
		a.mu.Lock()
		a.asked = append(a.asked, time.Now())
		a.mu.Unlock()
		if reply := a.hook(request); reply != nil {
			_ = guest.WriteFrame(conn, guest.AppendHookReply(nil, reply))
		}
	}
	_, _ = io.Copy(io.Discard, conn) // until the host closes
}

func (a *agent) serveRestore(conn net.Conn) {
	frame, err := guest.ReadFrame(conn)
	if err != nil {
		return
	}
	request, err := guest.ParseRestoreRequest(frame)
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte{guest.ClockRequest})
	if _, err := io.ReadFull(conn, make([]byte, 8)); err != nil {
		return
	}
	if reply := a.restore(request); reply != nil {
		_, _ = conn.Write([]byte{guest.ClockDone})
		_ = guest.WriteFrame(conn, guest.AppendRestoreReply(nil, reply))
	}
}

// statuses makes a hook that answers one status after the other, and the last one from then on.
func statuses(all ...int) func(guest.HookRequest) *guest.HookReply {
	return func(guest.HookRequest) *guest.HookReply {
		status := all[0]
		if len(all) > 1 {
			all = all[1:]
		}
		return &guest.HookReply{Status: status}
	}
}

func inBake(t *testing.T, a *agent, test func(t *testing.T, m *Manager, s *session)) {
	synctest.Test(t, func(t *testing.T) {
		test(t, &Manager{clock: clockwork.NewRealClock()}, a.session(t))
	})
}

var ready = BakeSpec{Hooks: store.Hooks{Port: 9000, Ready: store.Hook{Enabled: true, Timeout: 30 * time.Second}}, Log: io.Discard}

func TestReadyIsAskedUntilItAnswers200(t *testing.T) {
	a := &agent{hook: statuses(0, 503, 503, 200)}
	inBake(t, a, func(t *testing.T, m *Manager, s *session) {
		require.NoError(t, m.awaitReady(t.Context(), s, ready, &follower{}))
		require.Len(t, a.asked, 4)
		for i, at := range a.asked[1:] {
			require.Equal(t, hookPoll, at.Sub(a.asked[i]))
		}
	})
}

func TestAnyOtherAnswerOfReadyIsFinal(t *testing.T) {
	for status, reason := range map[int]string{
		500: "Ready hook check failed: the application returned a server error (HTTP 5xx) response",
		502: "Ready hook check failed: the application returned a server error (HTTP 5xx) response",
		404: "Ready hook check failed: the application returned a client error (HTTP 4xx) response",
		302: "Ready hook check failed: the application returned HTTP 302",
		204: "Ready hook check failed: the application returned HTTP 204",
		101: "Ready hook check failed: the application returned HTTP 101",
	} {
		inBake(t, &agent{hook: statuses(503, status)}, func(t *testing.T, m *Manager, s *session) {
			var bad *BakeError
			require.ErrorAs(t, m.awaitReady(t.Context(), s, ready, &follower{}), &bad)
			require.Equal(t, reason, bad.Reason)
		})
	}
}

func TestAnAppThatNeverBecomesReadyIsGivenUpAfterItsTimeout(t *testing.T) {
	inBake(t, &agent{hook: statuses(503)}, func(t *testing.T, m *Manager, s *session) {
		began := time.Now()
		var bad *BakeError
		require.ErrorAs(t, m.awaitReady(t.Context(), s, ready, &follower{}), &bad)
		require.Equal(t, "Ready hook invocation timed out after PT30S", bad.Reason)
		require.Equal(t, ready.Hooks.Ready.Timeout, time.Since(began))
	})
}

func TestAGuestThatNeverAnswersIsGivenUp(t *testing.T) {
	inBake(t, &agent{hook: func(guest.HookRequest) *guest.HookReply { return nil }}, func(t *testing.T, m *Manager, s *session) {
		began := time.Now()
		require.ErrorIs(t, m.awaitReady(t.Context(), s, ready, &follower{}), context.DeadlineExceeded)
		require.LessOrEqual(t, time.Since(began), ready.Hooks.Ready.Timeout+20*time.Second)
	})
}

func TestAnAppThatExitsBeforeItIsReadyIsReported(t *testing.T) {
	app := &follower{code: make(chan int, 1)}
	app.code <- 3
	inBake(t, &agent{hook: statuses(503)}, func(t *testing.T, m *Manager, s *session) {
		require.EqualError(t, m.awaitReady(t.Context(), s, ready, app), "The application exited with code 3 before it was ready")
	})
}

func TestAnAppWithoutAReadyHookGetsTimeToListen(t *testing.T) {
	open, refused := guest.ForwardOK, guest.ForwardRefused
	after := 0
	for name, c := range map[string]struct {
		forward func() *guest.ForwardStatus
		takes   time.Duration
	}{
		"listens at once":         {func() *guest.ForwardStatus { return &open }, 0},
		"never listens":           {func() *guest.ForwardStatus { return &refused }, settleTime},
		"an agent that is silent": {func() *guest.ForwardStatus { return nil }, settleTime},
		"listens after a while": {func() *guest.ForwardStatus {
			if after++; after > 5 {
				return &open
			}
			return &refused
		}, 5 * hookPoll},
	} {
		t.Run(name, func(t *testing.T) {
			inBake(t, &agent{forward: c.forward}, func(t *testing.T, m *Manager, s *session) {
				began := time.Now()
				var warned []string
				spec := BakeSpec{Warn: func(text string) { warned = append(warned, text) }}
				require.NoError(t, m.awaitReady(t.Context(), s, spec, &follower{}))
				require.Equal(t, c.takes, time.Since(began))
				if c.takes < settleTime {
					require.Empty(t, warned)
				} else {
					require.Equal(t, []string{"nothing listened on port 8080 within 10s; the snapshot is taken anyway"}, warned)
				}
			})
		})
	}
}

func TestAGuestThatReportsManyExitsHoldsNothingUp(t *testing.T) {
	flood := func(conn net.Conn) {
		for code := 0; ; code++ {
			event := guest.Event{Exit: &guest.ExitEvent{Code: code}}
			if code%2 == 1 {
				event = guest.Event{Log: &guest.LogEvent{Data: bytes.Repeat([]byte("x"), 1000)}}
			}
			if guest.WriteJSON(conn, event) != nil {
				return
			}
		}
	}
	inBake(t, &agent{events: flood}, func(t *testing.T, m *Manager, s *session) {
		watching, stop := context.WithCancel(t.Context())
		log := &writes{left: 100, done: make(chan struct{})}
		app := m.follow(watching, s, log, 0)
		<-log.done
		stop()
		<-app.drained
		require.Equal(t, 0, <-app.code, "the first one counts")
	})
}

// writes is a log that tells when it has been written to so many times.
type writes struct {
	left int
	done chan struct{}
}

func (w *writes) Write(p []byte) (int, error) {
	if w.left--; w.left == 0 {
		close(w.done)
	}
	return len(p), nil
}

func TestDurationsAreWrittenAsTheServiceDoes(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"PT1S": time.Second, "PT30S": 30 * time.Second, "PT5M": 5 * time.Minute, "PT1M1S": 61 * time.Second, "PT1H": time.Hour, "PT59M59S": time.Hour - time.Second,
	} {
		require.Equal(t, want, isoDuration(d))
	}
}

func TestARehearsalIsARestoreThatLeavesTheSecretAsItIs(t *testing.T) {
	var got guest.RestoreRequest
	a := &agent{restore: func(r guest.RestoreRequest) *guest.RestoreReply {
		got = r
		return &guest.RestoreReply{}
	}}
	inBake(t, a, func(t *testing.T, _ *Manager, s *session) {
		s.secret[0] = 7
		require.NoError(t, s.rehearse(t.Context()))
		require.Equal(t, s.secret, got.Secret, "it is the one that is sealed into the image")
		require.Len(t, got.Hostname, len("microvm-00000000-0000-0000-0000-000000000000"))
		require.NotZero(t, got.MachineID)
		require.NotZero(t, got.Entropy)
		require.Empty(t, got.Hook.Name, "the app learns nothing of it")
	})
	a.restore = func(guest.RestoreRequest) *guest.RestoreReply { return &guest.RestoreReply{Error: "no entropy"} }
	inBake(t, a, func(t *testing.T, _ *Manager, s *session) {
		require.ErrorContains(t, s.rehearse(t.Context()), "rehearse a restore: fix up the restored guest: guest: agent: no entropy")
	})
}

func TestOnlyAnImageWithAllCapabilitiesBootsWithAllModules(t *testing.T) {
	for all, want := range map[bool]string{false: "plain", true: "all"} {
		driver := &vmmtest.Driver{Spoil: func(m *vmmtest.Machine) { m.Fail = map[string]error{"Network": io.ErrClosedPipe} }}
		m, err := New(Config{
			Dir: t.TempDir(), Driver: driver, Boot: BootConfig{Initrd: "plain", InitrdAll: "all"},
			Clock: clockwork.NewRealClock(), Log: slog.New(slog.DiscardHandler), Warm: -1,
		})
		require.NoError(t, err)
		_, err = m.Bake(t.Context(), BakeSpec{
			Dir: t.TempDir(), App: guest.BootRequest{AllCapabilities: all}, Size: Size{MemoryMiB: 1, CPUs: 1, DiskBytes: 8 << 20},
			Log: io.Discard, Phase: func(string) {},
		})
		require.ErrorIs(t, err, io.ErrClosedPipe)
		require.Equal(t, want, driver.Machines()[0].Config.Initrd)
		require.Zero(t, driver.Alive())
	}
}
