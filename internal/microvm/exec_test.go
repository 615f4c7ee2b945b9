package microvm

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// duplex is a connection whose directions end apart.
type duplex struct {
	net.Conn          // reads
	out      net.Conn // writes
}

func newDuplex() (one, other *duplex) {
	a, b := net.Pipe()
	c, d := net.Pipe()
	return &duplex{a, c}, &duplex{d, b}
}

func (d *duplex) Write(p []byte) (int, error) { return d.out.Write(p) }
func (d *duplex) CloseWrite() error           { return d.out.Close() }
func (d *duplex) Close() error                { return errors.Join(d.Conn.Close(), d.out.Close()) }

func (d *duplex) SetDeadline(t time.Time) error {
	return errors.Join(d.Conn.SetDeadline(t), d.out.SetDeadline(t))
}

// exec starts a process that says what it is told, as a real client of an agent that is a fake.
func (s *fakeGuest) exec(ctx context.Context, r guest.ExecRequest) (*guest.Process, error) {
	if isClosed(s.network) {
		return nil, net.ErrClosed
	}
	dial := func(context.Context, uint16) (net.Conn, error) {
		host, agent := newDuplex()
		go s.serveProcess(agent)
		return host, nil
	}
	return guest.New(dial, [guest.SecretSize]byte{}).Exec(ctx, r)
}

func (s *fakeGuest) serveProcess(conn *duplex) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, guest.PreambleSize)); err != nil {
		return
	}
	var r guest.ExecRequest
	if guest.ReadJSON(conn, &r) != nil {
		return
	}
	say := func(f guest.ExecFrame) error {
		_, err := conn.Write(f.Append(nil))
		return err
	}
	time.Sleep(read(s.g, &s.g.execTime))
	_ = say(guest.ExecFrame{Kind: guest.ExecStarted})
	for buffer := make([]byte, guest.ExecPiece+1); ; {
		f, err := guest.ReadExecFrame(conn, buffer)
		if err != nil {
			break
		}
		if say(guest.ExecFrame{Kind: guest.ExecTaken, Number: uint32(len(f.Data))}) != nil ||
			say(guest.ExecFrame{Kind: guest.ExecStdout, Data: f.Data}) != nil {
			return
		}
	}
	time.Sleep(read(s.g, &s.g.hangUpTime))
	s.g.note("process ended")
}

// starts a process in a microVM.
func (w *world) exec(id string, args ...string) *Process {
	w.t.Helper()
	lease, err := w.vm(id).Lease(w.t.Context())
	require.NoError(w.t, err)
	lease.Answered(Stream) // as a shell's WebSocket is, which no suspend waits for
	p, err := lease.Exec(w.t.Context(), guest.ExecRequest{Args: args})
	require.NoError(w.t, err)
	return p
}

// lastWord reads what a process says until its end.
func lastWord(p *Process) <-chan error {
	last := make(chan error, 1)
	go func() {
		for {
			if _, err := p.Next(); err != nil {
				last <- err
				return
			}
		}
	}()
	return last
}

func TestProcessesEndBeforeTheirMicroVMIsPausedAndSayWhy(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hooks("suspend")
		w.guests.spoil(func(g *guests) { g.hangUpTime = time.Second })
		id := w.run(nil)
		shell, command := w.exec(id), w.exec(id, "sleep", "100")
		defer shell.Close()
		defer command.Close()
		last, other := lastWord(shell), lastWord(command)
		w.guests.said()
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		calls := w.guests.said()
		require.Equal(t, 2, count(calls, "process ended"))
		require.Less(t, slices.Index(calls, "process ended"), slices.Index(calls, "hook suspend"))
		require.ErrorIs(t, <-last, ErrAsleep)
		require.ErrorIs(t, <-other, ErrAsleep)
		require.Error(t, shell.Input([]byte("x")))
	})
}

func TestAProcessThatWasJustLeftIsWaitedForToo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guests.spoil(func(g *guests) { g.hangUpTime = time.Second })
		id := w.run(nil)
		require.NoError(t, w.exec(id).Close())
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		calls := w.guests.said()
		require.Less(t, slices.Index(calls, "process ended"), slices.Index(calls, "pause"))
	})
}

func TestAProcessThatIsBeingStartedIsWaitedForToo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guests.spoil(func(g *guests) { g.execTime = time.Second })
		id := w.run(nil)
		lease, err := w.vm(id).Lease(t.Context())
		require.NoError(t, err)
		last := make(chan error, 1)
		go func() {
			p, err := lease.Exec(t.Context(), guest.ExecRequest{})
			if err == nil {
				defer p.Close()
				_, err = p.Next()
			}
			last <- err
		}()
		w.settles()
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		require.ErrorIs(t, <-last, ErrAsleep)
		calls := w.guests.said()
		require.Less(t, slices.Index(calls, "process ended"), slices.Index(calls, "pause"))
		require.Contains(t, calls, "process ended")
	})
}

func TestAProcessThatDoesNotEndDelaysASuspendOnlySoLong(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guests.spoil(func(g *guests) { g.hangUpTime = time.Minute })
		id := w.run(nil)
		p := w.exec(id)
		defer p.Close()
		last := lastWord(p)
		began := time.Now()
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		require.InDelta(t, hangUpLimit.Seconds(), time.Since(began).Seconds(), 0.1)
		require.NoError(t, p.Close())
		<-last
		w.passes(time.Minute)
	})
}

func TestProcessesOfAMicroVMThatIsTerminatedSaySo(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		p := w.exec(id)
		defer p.Close()
		last := lastWord(p)
		require.NoError(t, w.Terminate(t.Context(), id))
		require.ErrorIs(t, <-last, ErrGone)
		w.becomes(id, store.VMTerminated)
	})
}

func TestAStaleLeaseStartsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(idle(hour, hour, true))
		lease, err := w.vm(id).Lease(t.Context())
		require.NoError(t, err)
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		_, err = lease.Exec(t.Context(), guest.ExecRequest{})
		require.ErrorIs(t, err, ErrStale)
		p := w.exec(id) // with a new lease, which wakes it
		require.NoError(t, p.Close())
	})
}

func TestProcessesOfAMicroVMAreBoundedAndGiveTheirPlaceBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(nil)
		lease, err := w.vm(id).Lease(t.Context())
		require.NoError(t, err)
		var all []*Process
		for range maxProcesses {
			all = append(all, w.exec(id))
		}
		_, err = lease.Exec(t.Context(), guest.ExecRequest{})
		require.ErrorIs(t, err, ErrProcesses)
		for _, p := range all {
			require.NoError(t, p.Close())
		}
		w.settles()
		require.NoError(t, w.exec(id).Close())
	})
}

// A shell goes through the endpoint, but nothing of it reaches the app's ports: by default it keeps
// nobody awake.
func TestOnlyProcessesThatAreConfiguredToKeepTheirMicroVMAwake(t *testing.T) {
	for name, test := range map[string]struct {
		counts IdleCounts
		args   []string
		awake  bool
	}{
		"shell, nothing counts":   {IdleCounts{}, nil, false},
		"command, nothing counts": {IdleCounts{}, []string{"ls"}, false},
		"shell, shells count":     {IdleCounts{Shell: true}, nil, true},
		"command, shells count":   {IdleCounts{Shell: true}, []string{"ls"}, false},
		"shell, commands count":   {IdleCounts{Exec: true}, nil, false},
		"command, commands count": {IdleCounts{Exec: true}, []string{"ls"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorldWith(t, func(c *Config) { c.IdleCounts = test.counts }, func(t *testing.T, w *world) {
				id := w.run(idle(time.Minute, hour, true))
				p := w.exec(id, test.args...)
				defer p.Close()
				last := lastWord(p)
				w.passes(40 * time.Second)
				require.NoError(t, p.Input([]byte("x")))
				w.passes(40 * time.Second)
				require.Equal(t, test.awake, w.row(id).State == store.VMRunning)
				w.becomes(id, store.VMSuspended) // a minute after the last byte, or before
				require.ErrorIs(t, <-last, ErrAsleep)
			})
		})
	}
}
