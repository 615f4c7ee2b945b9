package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
)

// lingerTimeout is by the real clock, as deadlines of sockets are.
const lingerTimeout = time.Second

var errParkedTooLong = errors.New("microVM did not serve in time")

// handler takes a request from its arrival to its guest: find the VM, check the token, choose the
// port, lease the VM, proxy. Nothing of the VM is touched before the token is known to be good.
type handler struct {
	cfg     Config
	limiter *limiter
	proxy   *httputil.ReverseProxy
	shells  sync.WaitGroup
}

func newHandler(cfg Config) *handler {
	h := &handler{cfg: cfg, limiter: newLimiter(cfg.Limits, cfg.Clock)}
	h.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      newUpstream(cfg.Clock),
		ModifyResponse: modifyResponse,
		FlushInterval:  flushDelay,
		ErrorHandler:   h.proxyFailed,
		BufferPool:     &copyBuffers{},
		ErrorLog:       slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return h
}

// exchange is one request that passed its checks, and what it uses. Only the goroutine that serves
// the request uses it.
type exchange struct {
	handler   *handler
	writer    http.ResponseWriter
	requestID string
	vm        VM
	port      uint16
	forceH2   bool
	offer     offer
	tally     *tally       // nil where nothing is limited
	shell     bool         // a shell is asked for, and port means nothing
	lease     Lease        // nil before takeLease, and when renewLease has failed
	body      *requestBody // nil if there is none, or it is not yet being sent
	bodyless  bool         // the response has no body
	duplex    bool         // HTTP/1 with a body: response and body overlap
	base      context.Context
	observed  *Observed // nil: nobody wants to know
}

type exchangeKey struct{}

// withExchange makes the context of all that is done for ex; upstream builds others on it.
func withExchange(ctx context.Context, ex *exchange) context.Context {
	ex.base = context.WithValue(ctx, exchangeKey{}, ex)
	return ex.base
}

func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ex := &exchange{handler: h, writer: w, requestID: uuid.NewString()}
	defer ex.observe(r)()
	refusal := ex.admit(r)
	if refusal == nil {
		ex.tally, refusal = h.limiter.admit(ex.vm, connOf(r.Context()))
	}
	if refusal != nil {
		h.answer(w, ex, *refusal, nil)
		return
	}
	if err := ex.takeLease(r.Context()); err != nil {
		h.answer(w, ex, answerFor(err), err)
		return
	}
	defer ex.giveUpLease()
	if ex.shell {
		h.serveShell(w, r, ex)
		return
	}
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// Without it net/http swallows the rest of the body before the first byte of a response.
		ex.duplex = true
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			h.answer(w, ex, appResponseFailed, fmt.Errorf("stream both ways: %w", err))
			return
		}
		defer ex.linger()
	}
	defer func() { ex.body.retire() }()
	h.proxy.ServeHTTP(promptWriter{w, ex}, r.WithContext(withExchange(r.Context(), ex)))
}

// stopReading makes a read of the client's body fail that waits for more. What follows on an HTTP/1
// connection is lost with it.
func (ex *exchange) stopReading() { ex.readUntil(time.Unix(1, 0)) }

// linger bounds how long the server, after the response, looks for the end of a body that nobody
// wants, so that the client may finish reading before its connection is closed.
func (ex *exchange) linger() {
	if ex.body == nil || !ex.body.ended.Load() {
		ex.readUntil(time.Now().Add(lingerTimeout))
	}
}

func (ex *exchange) readUntil(deadline time.Time) {
	// A connection that is already closed needs no deadline.
	_ = http.NewResponseController(ex.writer).SetReadDeadline(deadline)
}

// admit fills in vm, port and offer, or says why the request is refused.
func (ex *exchange) admit(r *http.Request) *answer {
	if r.Method == "PRI" { // net/http lets an HTTP/2 preface through as a request
		return &badRequest
	}
	var err error
	if ex.offer, err = parseOffer(r.Header[subprotocolHeader]); err != nil {
		return &badRequest
	}
	token, ok := presentedToken(r, ex.offer)
	if !ok {
		return &authMissing
	}
	vm, known := ex.handler.findVM(r)
	if !known {
		if _, err := checkShape(token); err != nil {
			return &authMissing
		}
		return &authFailed
	}
	granted, err := ex.handler.cfg.Tokens.verify(token, vm.ID())
	switch {
	case errors.Is(err, errNotAToken):
		return &authMissing
	case err != nil:
		return &authFailed
	}
	ex.vm = vm
	connOf(r.Context()).showedToken()
	if granted.Purpose == purposeShell {
		return ex.admitShell(r)
	}
	if ex.port, err = requestedPort(r, ex.offer); err != nil {
		return &badRequest
	}
	switch {
	case !covers(granted.Ports, ex.port):
		return &portDenied
	case !vm.AcceptsHTTP():
		return &ingressDenied
	}
	ex.forceH2 = strings.EqualFold(r.Header.Get(forceH2Header), "true")
	return nil
}

// presentedToken returns the token of the header or, on a WebSocket handshake that also offers the
// platform's marker, of the subprotocol.
func presentedToken(r *http.Request, o offer) (token string, ok bool) {
	switch values := r.Header[authHeader]; {
	case len(values) == 1:
		return values[0], true
	case len(values) > 1:
		return "", false
	}
	return o.token, o.marker && o.token != "" && isWebSocket(r)
}

func requestedPort(r *http.Request, o offer) (uint16, error) {
	switch values := r.Header[portHeader]; {
	case len(values) == 1:
		return parsePort(values[0])
	case len(values) > 1:
		return 0, errBadPort
	case o.port != "":
		return parsePort(o.port)
	}
	return DefaultPort, nil
}

// findVM goes by the address the client connected to if that is one of the VMs', else by the host,
// not by the name in the TLS handshake: HTTP/2 clients use a connection for every name its
// certificate covers.
func (h *handler) findVM(r *http.Request) (VM, bool) {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && h.cfg.Mode == ModeIP {
		if addr := addrOf(local); AddrPool.Contains(addr) {
			return h.cfg.VMs.ByAddr(addr)
		}
	}
	id, ok := endpointID(r.Host, h.cfg.Domain)
	if !ok {
		return nil, false
	}
	return h.cfg.VMs.ByEndpoint(id)
}

func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// takeLease waits, within Config.ParkTimeout, until the VM serves.
func (ex *exchange) takeLease(ctx context.Context) error {
	parked, cancel := clockwork.WithTimeout(ctx, ex.handler.cfg.Clock, ex.handler.cfg.ParkTimeout)
	defer cancel()
	lease, err := ex.vm.Lease(parked)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errParkedTooLong
	}
	if err != nil {
		return fmt.Errorf("lease %s: %w", ex.vm.ID(), err)
	}
	if ex.tally != nil && ex.tally.bytes != nil {
		lease = throttledLease{lease, ex.tally.bytes, ex.handler.cfg.Clock}
	}
	ex.lease = lease
	return nil
}

// renewLease gives up a lease that went stale for a new one. It must not keep the old one meanwhile: the
// suspend that is waited for would wait for it. When it fails there is none.
func (ex *exchange) renewLease(ctx context.Context) error {
	ex.giveUpLease()
	return ex.takeLease(ctx)
}

func (ex *exchange) giveUpLease() {
	if ex.lease != nil {
		ex.lease.Release()
		ex.lease = nil
	}
}

func (h *handler) proxyFailed(w http.ResponseWriter, r *http.Request, err error) {
	h.answer(w, exchangeOf(r), answerFor(err), err)
}

func (h *handler) answer(w http.ResponseWriter, ex *exchange, a answer, cause error) {
	vmID := ""
	if ex.vm != nil {
		vmID = ex.vm.ID()
	}
	ex.answered(a.status, a.code)
	h.cfg.Logger.Debug("request not served", "request", ex.requestID, "microvm", vmID, "code", a.code, "cause", cause)
	header := w.Header()
	header[requestIDHeader] = []string{ex.requestID}
	header[errorHeader] = []string{a.code}
	ex.endConnection(header)
	if a.status == http.StatusTooManyRequests {
		header["Retry-After"] = []string{retryAfter}
	}
	if a == tooManyConnections {
		header["Connection"] = []string{"close"} // also over HTTP/2
	}
	header["Content-Type"] = nil
	if a.body != "" {
		header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.WriteHeader(a.status)
	_, _ = w.Write([]byte(a.body)) // a client that left needs no answer
}

// copyBuffers recycles the buffers bodies are copied through.
type copyBuffers struct{ pool sync.Pool }

const copyBuffer = 32 << 10 // bytes: two TLS records

func (b *copyBuffers) Get() []byte {
	if buf, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return buf[:]
	}
	return make([]byte, copyBuffer)
}

func (b *copyBuffers) Put(buf []byte) { b.pool.Put((*[copyBuffer]byte)(buf)) }
