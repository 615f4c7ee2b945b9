package endpoint

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

func limited(t *testing.T, limit Limit) *world {
	t.Helper()
	w := newWorldWith(t, func(c *Config) { c.Limits = Limits{512: limit} })
	w.vm.class = 512
	w.vm.listen(t, DefaultPort, http.HandlerFunc(echoBody))
	return w
}

func requireTooMany(t *testing.T, want answer, res *http.Response, body string) {
	t.Helper()
	requireAnswer(t, want, res, body)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
}

func TestRequestsBeyondTheRateAreToldToComeAgain(t *testing.T) {
	w := limited(t, Limit{Requests: 5})
	for _, protocol := range []string{"http/1.1", "h2"} {
		client := &http.Client{Transport: w.transport(t, protocol)}
		for range 5 {
			res, _ := get(t, client, w.request(t, http.MethodGet, "/"))
			require.Equal(t, http.StatusOK, res.StatusCode)
		}
		leases, touched := w.vm.leases.Load(), w.vm.touched.Load()
		for range 3 {
			res, body := get(t, client, w.request(t, http.MethodGet, "/"))
			requireTooMany(t, tooManyRequests, res, body)
		}
		require.Equal(t, []int64{leases, touched}, []int64{w.vm.leases.Load(), w.vm.touched.Load()}, "it reaches nobody")
		w.clock.Advance(200 * time.Millisecond)
		res, _ := get(t, client, w.request(t, http.MethodGet, "/"))
		require.Equal(t, http.StatusOK, res.StatusCode)
		w.clock.Advance(time.Second)
	}
}

func TestBadTokensUseNothingOfAVMsRate(t *testing.T) {
	w := limited(t, Limit{Requests: 1})
	client := w.client(t)
	for range 10 {
		r := w.request(t, http.MethodGet, "/")
		r.Header.Set(authHeader, mint(t, w.tokens, "microvm-other", AllPorts...))
		res, body := get(t, client, r)
		requireAnswer(t, authFailed, res, body)
	}
	res, _ := get(t, client, w.request(t, http.MethodGet, "/"))
	require.Equal(t, http.StatusOK, res.StatusCode)
}

func TestConnectionsBeyondTheLimitAreRefusedUntilOthersAreClosed(t *testing.T) {
	overBothWith := func(test func(t *testing.T, w *world, protocol string)) {
		for _, protocol := range []string{"http/1.1", "h2"} {
			t.Run(protocol, func(t *testing.T) { test(t, limited(t, Limit{Connections: 2}), protocol) })
		}
	}
	overBothWith(func(t *testing.T, w *world, protocol string) {
		var clients []*http.Client
		for range 3 {
			clients = append(clients, &http.Client{Transport: w.transport(t, protocol)})
		}
		for _, client := range clients[:2] {
			for range 3 { // on one connection
				res, _ := get(t, client, w.request(t, http.MethodGet, "/"))
				require.Equal(t, http.StatusOK, res.StatusCode)
			}
		}
		res, body := get(t, clients[2], w.request(t, http.MethodGet, "/"))
		requireTooMany(t, tooManyConnections, res, body)

		idle, err := net.Dial("tcp", w.general) // counts for no VM
		require.NoError(t, err)
		defer idle.Close()
		clients[0].CloseIdleConnections()
		require.Eventually(t, func() bool {
			res, _ := get(t, clients[2], w.request(t, http.MethodGet, "/"))
			return res.StatusCode == http.StatusOK
		}, wait, time.Millisecond)
	})
}

func TestAWebSocketCountsAsAConnectionUntilItsEnd(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.Limits = Limits{512: {Connections: 1}} })
	w.vm.class = 512
	w.vm.listen(t, DefaultPort, echoSocket(nil))
	header := http.Header{authHeader: {w.token}}
	first, _, err := w.dialSocket(t, header)
	require.NoError(t, err)
	_, res, err := w.dialSocket(t, header)
	require.Error(t, err)
	require.Equal(t, http.StatusTooManyRequests, res.StatusCode)
	require.NoError(t, first.CloseNow())
	require.Eventually(t, func() bool {
		_, _, err := w.dialSocket(t, header)
		return err == nil
	}, wait, time.Millisecond)
}

func TestOneVMsLimitIsNotAnothers(t *testing.T) {
	l := newLimiter(Limits{512: {Connections: 1, Requests: 1}, 1024: {Requests: 2}}, clockwork.NewFakeClock())
	conns := []*clientConn{{}, {}}
	admit := func(id string, class int, by *clientConn) bool {
		_, refusal := l.admit(&fakeVM{id: id, class: class}, by)
		return refusal == nil
	}
	require.True(t, admit("a", 512, conns[0]))
	require.True(t, admit("b", 512, conns[0]), "a connection may serve several VMs")
	require.False(t, admit("a", 512, conns[1]))
	require.True(t, admit("c", 1024, conns[1]))
	require.True(t, admit("c", 1024, conns[1]))
	require.False(t, admit("c", 1024, conns[1]))
	require.True(t, admit("d", 2048, conns[1]), "no limit for its class")
	l.leave(conns[0])
	require.Zero(t, l.tallies["a"].conns+l.tallies["b"].conns)
	require.False(t, admit("a", 512, conns[0]), "the rate")
	require.Zero(t, l.tallies["a"].conns, "a connection that has ended is not counted again")
}

func TestTalliesOfVMsThatAreGoneAreForgotten(t *testing.T) {
	clock := clockwork.NewFakeClock()
	l := newLimiter(Limits{512: {Connections: 1, Requests: 1}}, clock)
	open := &clientConn{}
	for i := range 3 * firstSweep {
		by := &clientConn{}
		if i == 0 {
			by = open
		}
		_, refusal := l.admit(&fakeVM{id: fmt.Sprint(i), class: 512}, by)
		require.Nil(t, refusal)
		if by != open {
			l.leave(by)
		}
		clock.Advance(time.Second)
	}
	require.LessOrEqual(t, len(l.tallies), firstSweep)
	require.Contains(t, l.tallies, "0", "one that has a connection open counts it still")
}

func TestAVMHasOneBandwidthWhateverIsLimitedBesides(t *testing.T) {
	clock := clockwork.NewFakeClock()
	l := newLimiter(Limits{512: {Bandwidth: 1 << 20}}, clock)
	admit := func(id string) *tally {
		tally, refusal := l.admit(&fakeVM{id: id, class: 512}, &clientConn{})
		require.Nil(t, refusal)
		return tally
	}
	download := admit("a")
	clock.Advance(tallyLife)
	for i := range firstSweep {
		admit(fmt.Sprint(i))
	}
	require.Same(t, download, admit("a"))
}

func TestShellsHaveNoMoreBandwidthThanOthers(t *testing.T) {
	vm := newFakeVM(testVM)
	open := func() (Process, *fakeProcess) {
		bytes := rate.NewLimiter(1, throttledPiece) // nothing but its burst
		p, err := throttledLease{&fakeLease{vm: vm, generation: 1}, bytes, clockwork.NewFakeClock()}.Exec(t.Context(), guest.ExecRequest{})
		require.NoError(t, err)
		return p, <-vm.processes
	}
	ended := make(chan error, 1)

	p, behind := open()
	go func() { ended <- p.Input(make([]byte, 2*throttledPiece)) }()
	require.Len(t, <-behind.told, throttledPiece)
	require.Empty(t, behind.told)
	require.NoError(t, p.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)

	p, behind = open()
	go func() {
		_, err := p.Next()
		ended <- err
	}()
	behind.says <- guest.ExecOutput{Data: make([]byte, guest.ExecPiece)}
	require.Empty(t, ended)
	require.NoError(t, p.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)

	p, behind = open()
	go func() { behind.says <- guest.ExecOutput{Data: make([]byte, throttledPiece)} }()
	out, err := p.Next()
	require.NoError(t, err)
	require.Len(t, out.Data, throttledPiece)
	require.NoError(t, p.Close())
}

// through copies n bytes through a throttled connection, in one direction, and returns what it took.
func through(t *testing.T, bytes *rate.Limiter, n int, write bool) time.Duration {
	near, far := net.Pipe()
	conn := &throttledConn{Conn: near, bytes: bytes, clock: clockwork.NewRealClock(), closed: make(chan struct{})}
	began := time.Now()
	from, to := net.Conn(conn), far
	if !write {
		from, to = far, conn
	}
	go func() {
		_, _ = from.Write(make([]byte, n))
		from.Close()
	}()
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, to, make([]byte, copyBuffer))
	if err != nil || int(got) != n {
		t.Errorf("%d bytes, %v", got, err)
	}
	to.Close()
	return time.Since(began)
}

func TestBandwidthIsForBothDirectionsTogetherAndSharedEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bandwidth = 1 << 20
		bytes := rate.NewLimiter(bandwidth, bandwidth/burstsPerSecond)
		took := make(chan time.Duration, 4)
		for i := range 4 {
			go func() { took <- through(t, bytes, bandwidth, i%2 == 0) }()
		}
		for range 4 {
			require.InDelta(t, 4, (<-took).Seconds(), 0.3, "a quarter of it each")
		}
		require.InDelta(t, 1, through(t, bytes, bandwidth, true).Seconds(), 0.1, "all of it")
	})
}

func TestAThrottledConnectionCanBeClosedWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		conn := &throttledConn{Conn: near, bytes: rate.NewLimiter(1000, throttledPiece), clock: clockwork.NewRealClock(), closed: make(chan struct{})}
		time.AfterFunc(15*time.Second, func() { conn.Close() })
		n, err := conn.Write(make([]byte, 10*throttledPiece))
		require.ErrorIs(t, err, net.ErrClosed)
		require.Equal(t, throttledPiece, n, "the burst")
		require.NoError(t, conn.Close())
		require.ErrorContains(t, conn.CloseWrite(), "unsupported")
	})
}

func TestBodiesAreThrottledAndWhole(t *testing.T) {
	const bandwidth = 2 << 20
	w := startWorldWith(t, clockwork.NewRealClock(), func(c *Config) { c.Limits = Limits{512: {Bandwidth: bandwidth}} })
	w.vm.class = 512
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(make([]byte, bandwidth/2)) }))
	began := time.Now()
	_, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
	require.Len(t, body, bandwidth/2)
	require.Greater(t, time.Since(began), 400*time.Millisecond)
}
