package microvm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// inLine begins n requests one after the other.
func (w *world) inLine(id string, n int) (all []*request) {
	w.t.Helper()
	for range n {
		all = append(all, w.requests(w.t.Context(), id, 1)...)
		w.settles()
	}
	return all
}

// inside are the positions of the requests that have been let in.
func inside(all []*request) (positions []int) {
	for i, r := range all {
		if isClosed(r.done) && r.err == nil {
			positions = append(positions, i)
		}
	}
	return positions
}

func upTo(n int) (positions []int) {
	for i := range n {
		positions = append(positions, i)
	}
	return positions
}

func TestACrowdIsLetInInTheOrderInWhichItCame(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const crowd = 50
		id := w.asleep(idle(hour, hour, true))
		all := w.inLine(id, crowd)
		w.becomes(id, store.VMRunning)
		w.settles()
		require.Equal(t, upTo(firstWindow), inside(all))
		late := w.inLine(id, 1)[0]
		for i := range crowd {
			w.settles()
			require.Equal(t, upTo(min(crowd, i+firstWindow)), inside(all), "one more for each that was answered")
			all[i].lease.Answered(Sized)
			all[i].lease.Release()
		}
		<-late.done
		require.NoError(t, late.err, "who came last is behind them")
		require.Equal(t, 1, count(w.guests.said(), "start"), "one wake")
	})
}

func TestAnAppThatAnswersNobodyDoesNotHoldUpTheCrowdForLong(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		all := w.requests(t.Context(), id, 100)
		w.becomes(id, store.VMRunning)
		for window := firstWindow; window < len(all); window += widenBy {
			w.settles()
			require.Len(t, inside(all), window)
			w.passes(widenEvery)
		}
		require.Len(t, inside(all), len(all))
	})
}

// serve answers a crowd as an app does, and returns the most it had at a time and what all took.
func (w *world) serve(all []*request, latency func(inside int) time.Duration) (most int, took time.Duration) {
	began := time.Now()
	now, answered := 0, make(chan struct{}, len(all))
	for _, r := range all {
		go func() {
			<-r.done
			w.guests.mu.Lock()
			now++
			most = max(most, now)
			pause := latency(now)
			w.guests.mu.Unlock()
			time.Sleep(pause)
			w.guests.mu.Lock()
			now--
			w.guests.mu.Unlock()
			r.lease.Answered(Sized)
			r.lease.Release()
			answered <- struct{}{}
		}()
	}
	for range all {
		<-answered
	}
	return most, time.Since(began)
}

func TestACrowdIsAsLargeAsTheAppIsGoodFor(t *testing.T) {
	for name, c := range map[string]struct {
		latency     func(inside int) time.Duration
		least, most int
		quicker     time.Duration
	}{
		"it waits for others": {func(int) time.Duration { return time.Second }, 100, maxInside, 8 * time.Second},
		"it computes":         {func(inside int) time.Duration { return time.Duration(inside) * 50 * time.Millisecond }, firstWindow, 40, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				id := w.asleep(idle(hour, hour, true))
				most, took := w.serve(w.requests(t.Context(), id, 900), c.latency)
				t.Logf("%d at a time, %v", most, took)
				require.GreaterOrEqual(t, most, c.least)
				require.LessOrEqual(t, most, c.most)
				require.Less(t, took, c.quicker)
			})
		})
	}
}

func TestAnAppWithAFullBacklogIsSentNoMore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		all := w.requests(t.Context(), id, 100)
		w.becomes(id, store.VMRunning)
		w.settles()
		w.guests.spoil(func(g *guests) { g.backlog = make(chan struct{}) })
		taken := read(w.guests, &w.guests.backlog)
		first := all[inside(all)[0]].lease
		_, err := first.Dial(t.Context(), 80)
		require.NoError(t, err)
		w.passes(time.Minute)
		require.Len(t, inside(all), firstWindow)
		first.Answered(Sized)
		w.settles()
		require.Len(t, inside(all), firstWindow+1, "one for one")
		close(taken)
		w.passes(2 * widenEvery)
		require.Greater(t, len(inside(all)), firstWindow+1)
	})
}

func TestOnlySoManyRequestsAreInsideAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.run(idle(hour, hour, true))
		all := w.requests(t.Context(), id, maxInside)
		w.settles()
		require.Len(t, inside(all), maxInside)
		late := w.inLine(id, 2)
		all[5].lease.Answered(Stream)
		w.settles()
		require.Empty(t, inside(late), "a stream is inside until it ends")
		all[5].lease.Release()
		w.settles()
		require.Equal(t, []int{0}, inside(late))

		// What the next suspend cuts makes room, whoever has still to notice.
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMRunning)
		<-late[1].done
		require.NoError(t, late[1].err)
		require.EqualValues(t, 2, late[1].lease.Generation())
	})
}

func TestOneThatGivesUpLosesItsPlaceAndNobodyElseDoes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		ctx, cancel := withCause(t)
		all := append(w.inLine(id, 1), w.requests(ctx, id, 1)...)
		w.settles()
		all = append(all, w.inLine(id, 1)...)
		cancel(errGivenUp)
		<-all[1].done
		require.ErrorIs(t, all[1].err, errGivenUp)
		w.becomes(id, store.VMRunning)
		w.settles()
		require.Equal(t, []int{0, 2}, inside(all))
	})
}

func TestACrowdThatGivesUpIsForgotten(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		ctx, cancel := withCause(t)
		all := w.requests(ctx, id, 100)
		w.becomes(id, store.VMRunning)
		w.passes(2 * widenEvery)
		w.guests.spoil(func(g *guests) { g.backlog = make(chan struct{}) })
		_, err := all[inside(all)[0]].lease.Dial(t.Context(), 80)
		require.NoError(t, err)
		g := w.vm(id).gate
		require.Greater(t, g.window, firstWindow)
		require.Len(t, g.dialled, 1)
		cancel(errGivenUp)
		w.settles()
		require.Equal(t, firstWindow, g.window, "the next crowd may want something else")
		require.Empty(t, g.dialled, "connections are not kept for it")
	})
}

func TestWhoIsStillWaitingAtTheNextSuspendIsServedAfterIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		id := w.asleep(idle(hour, hour, true))
		all := w.inLine(id, 2*firstWindow)
		w.becomes(id, store.VMRunning)
		w.settles()
		require.NoError(t, w.Suspend(t.Context(), id))
		require.Equal(t, upTo(firstWindow), inside(all))
		w.becomes(id, store.VMSuspended)
		w.becomes(id, store.VMRunning)
		w.settles()
		require.Equal(t, upTo(2*firstWindow), inside(all))
		require.True(t, all[0].lease.Stale())
		require.False(t, all[firstWindow].lease.Stale())
		all[0].lease.Answered(Sized) // of an ended generation: it makes room for nobody
		all[0].lease.Release()
		require.Equal(t, firstWindow, w.vm(id).gate.unanswered)
	})
}

func TestATerminatedMicroVMSendsEverybodyAway(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.guests.spoil(func(g *guests) { g.loadHold = time.Minute })
		id := w.launch(nil)
		all := w.inLine(id, 3)
		require.NoError(t, w.Terminate(t.Context(), id))
		for _, r := range all {
			<-r.done
			require.ErrorIs(t, r.err, ErrGone)
		}
	})
}

func BenchmarkLease(b *testing.B) {
	v := &vm{m: &Manager{cfg: Config{MaxParked: 1}, clock: realClock}}
	v.gate = newGate(v)
	now := newView(store.MicroVM{State: store.VMRunning})
	now.session = &fakeGuest{}
	v.publish(now)
	b.ReportAllocs()
	for b.Loop() {
		l, err := (*VM)(v).Lease(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		l.Answered(Sized)
		l.Release()
	}
}
