package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/endpoint/localca"
	"github.com/dormouse-dev/dormouse/internal/microvm"
)

const (
	testEndpoint = "5b0c8ad6-7c53-4d5e-8f0c-9b1d2e3f4a5b"
	testHost     = testEndpoint + ".localhost"
	wait         = 10 * time.Second // for what must happen; never slept
)

// fakeVM is a VM whose guest ports are servers on the host's loopback.
type fakeVM struct {
	id          string
	class       int
	noIngress   bool
	noShell     bool
	refusesLate bool // the first read of a connection says that nothing listens

	leases, open atomic.Int64 // taken in total, not yet released
	touched      atomic.Int64 // bytes
	wakes        atomic.Int64
	dials        atomic.Int64

	mu         sync.Mutex // guards what follows
	apps       map[uint16]string
	conns      []net.Conn
	generation uint64
	serving    chan struct{} // closed while the VM serves
	parked     int
	leaseErr   error
	answered   []microvm.Response // of all leases
	execErr    error

	processes chan *fakeProcess // as they are started; of some size
}

func newFakeVM(id string) *fakeVM {
	vm := &fakeVM{id: id, apps: make(map[uint16]string), generation: 1, serving: make(chan struct{}), processes: make(chan *fakeProcess, 10)}
	close(vm.serving)
	return vm
}

func (vm *fakeVM) ID() string         { return vm.id }
func (vm *fakeVM) MemoryClass() int   { return vm.class }
func (vm *fakeVM) AcceptsHTTP() bool  { return !vm.noIngress }
func (vm *fakeVM) failing(err error)  { vm.mu.Lock(); vm.leaseErr = err; vm.mu.Unlock() }
func (vm *fakeVM) waiting() int       { vm.mu.Lock(); defer vm.mu.Unlock(); return vm.parked }
func (vm *fakeVM) untouched() bool    { return vm.leases.Load() == 0 && vm.touched.Load() == 0 }
func (vm *fakeVM) AcceptsShell() bool { return !vm.noShell }

// listen serves an app on a guest port.
func (vm *fakeVM) listen(t testing.TB, port uint16, app http.Handler) {
	server := httptest.NewServer(app)
	t.Cleanup(server.Close)
	vm.forward(port, server.Listener.Addr().String())
}

func (vm *fakeVM) forward(port uint16, addr string) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.apps[port] = addr
}

// suspend breaks every connection into the guest and parks what comes.
func (vm *fakeVM) suspend() {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.generation++
	vm.serving = make(chan struct{})
	for _, conn := range vm.conns {
		conn.Close()
	}
	vm.conns = nil
}

func (vm *fakeVM) wake() {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.wakes.Add(1)
	close(vm.serving)
}

func (vm *fakeVM) Lease(ctx context.Context) (Lease, error) {
	vm.leases.Add(1)
	vm.mu.Lock()
	serving, err := vm.serving, vm.leaseErr
	vm.parked++
	vm.mu.Unlock()
	defer func() { vm.mu.Lock(); vm.parked--; vm.mu.Unlock() }()
	if err != nil {
		return nil, err
	}
	select {
	case <-serving:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	vm.open.Add(1)
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return &fakeLease{vm: vm, generation: vm.generation}, nil
}

type fakeLease struct {
	vm         *fakeVM
	generation uint64
	released   atomic.Bool
}

func (l *fakeLease) Generation() uint64 { return l.generation }
func (l *fakeLease) Touch(n int)        { l.vm.touched.Add(int64(n)) }
func (l *fakeLease) Stale() bool {
	l.vm.mu.Lock()
	defer l.vm.mu.Unlock()
	return l.generation != l.vm.generation
}

func (l *fakeLease) Answered(r microvm.Response) {
	l.vm.mu.Lock()
	l.vm.answered = append(l.vm.answered, r)
	l.vm.mu.Unlock()
}

func (l *fakeLease) Release() {
	if l.released.Swap(true) {
		panic("lease released twice")
	}
	l.vm.open.Add(-1)
}

func (l *fakeLease) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	l.vm.dials.Add(1)
	l.vm.mu.Lock()
	defer l.vm.mu.Unlock()
	if l.generation != l.vm.generation {
		return nil, ErrStale
	}
	addr, ok := l.vm.apps[port]
	if !ok {
		return nil, ErrRefused
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	l.vm.conns = append(l.vm.conns, conn)
	if l.vm.refusesLate {
		return lateRefusal{conn}, nil
	}
	return conn, nil
}

// lateRefusal is a connection whose refusal is on its way while the request is sent already.
type lateRefusal struct{ net.Conn }

func (c lateRefusal) Read([]byte) (int, error) {
	_, _ = io.Copy(io.Discard, c.Conn)
	return 0, ErrRefused
}

func (c lateRefusal) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		err = ErrRefused
	}
	return n, err
}

// world is a running endpoint in front of one VM, and what a client needs to use it.
type world struct {
	*Server
	vm      *fakeVM
	vmAddr  netip.Addr
	clock   *clockwork.FakeClock
	tokens  *Tokens
	token   string // opens all ports of vm
	roots   *x509.CertPool
	general string // address of the general listener
}

func (w *world) ByEndpoint(id string) (VM, bool)   { return w.vm, id == testEndpoint }
func (w *world) ByAddr(addr netip.Addr) (VM, bool) { return w.vm, addr == w.vmAddr }

func newWorld(t testing.TB) *world { t.Helper(); return newWorldWith(t, func(*Config) {}) }

// newWorldWith is newWorld with another configuration.
func newWorldWith(t testing.TB, change func(*Config)) *world {
	t.Helper()
	clock := clockwork.NewFakeClockAt(time.Now())
	w := startWorldWith(t, clock, change)
	w.clock = clock
	return w
}

func startWorld(t testing.TB, clock clockwork.Clock) *world {
	t.Helper()
	return startWorldWith(t, clock, func(*Config) {})
}

func startWorldWith(t testing.TB, clock clockwork.Clock, change func(*Config)) *world {
	t.Helper()
	folder := t.TempDir()
	authority, err := localca.Open(folder, localca.Scope{}, clock)
	require.NoError(t, err)
	pem, err := os.ReadFile(filepath.Join(folder, localca.CertFile))
	require.NoError(t, err)

	w := &world{vm: newFakeVM(testVM), roots: x509.NewCertPool(), tokens: openTokens(t, &memoryKeys{}, clock)}
	require.True(t, w.roots.AppendCertsFromPEM(pem))
	w.token = mint(t, w.tokens, testVM, AllPorts...)
	cfg := Config{
		Listen:         "127.0.0.1:0",
		VMs:            w,
		Tokens:         w.tokens,
		GetCertificate: authority.GetCertificate,
		Clock:          clock,
	}
	change(&cfg)
	w.Server, err = New(cfg)
	require.NoError(t, err)
	w.general = w.Server.general.Addr().String()

	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- w.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
		require.Eventually(t, func() bool { return w.vm.open.Load() == 0 }, wait, time.Millisecond, "every lease is released")
	})
	return w
}

// transport reaches the general listener whatever host the URL names, over HTTP/1.1 or HTTP/2.
func (w *world) transport(t testing.TB, protocol string) *http.Transport {
	t.Helper()
	tr := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: w.roots},
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if host, _, _ := net.SplitHostPort(addr); net.ParseIP(host) == nil {
				addr = w.general
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		Protocols: new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(protocol == "http/1.1")
	tr.Protocols.SetHTTP2(protocol == "h2")
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func (w *world) client(t testing.TB) *http.Client {
	return &http.Client{Transport: w.transport(t, "http/1.1"), Timeout: 3 * wait}
}

// request is authenticated and for the default port, where the test says nothing else.
func (w *world) request(t testing.TB, method, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+testHost+path, nil)
	require.NoError(t, err)
	r.Header.Set(authHeader, w.token)
	return r
}

// overBoth runs a test over HTTP/1.1 and over HTTP/2.
func overBoth(t *testing.T, test func(t *testing.T, w *world, client *http.Client)) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			w := newWorld(t)
			test(t, w, &http.Client{Transport: w.transport(t, protocol), Timeout: 3 * wait})
		})
	}
}
