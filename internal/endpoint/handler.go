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

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
)

var errParkedTooLong = errors.New("microVM did not serve in time")

// handler takes a request from its arrival to its guest: find the VM, check the token, choose the
// port, lease the VM, proxy. Nothing of the VM is touched before the token is known to be good.
type handler struct {
	cfg   Config
	proxy *httputil.ReverseProxy
}

func newHandler(cfg Config) *handler {
	h := &handler{cfg: cfg}
	h.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      newUpstream(cfg.Clock),
		ModifyResponse: modifyResponse,
		ErrorHandler:   h.proxyFailed,
		FlushInterval:  -1, // bytes go on as they come
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
	offer     offer
	lease     Lease
	body      *requestBody // nil if there is none, or it is not yet being sent
	duplex    bool         // HTTP/1 with a body: response and body overlap
	observed  *Observed    // nil: nobody wants to know
}

type exchangeKey struct{}

func withExchange(ctx context.Context, ex *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, ex)
}

func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ex := &exchange{handler: h, writer: w, requestID: uuid.NewString()}
	defer ex.observe(r)()
	if refusal := ex.admit(r); refusal != nil {
		h.answer(w, ex, *refusal, nil)
		return
	}
	if err := ex.takeLease(r.Context()); err != nil {
		h.answer(w, ex, answerFor(err), err)
		return
	}
	defer func() { ex.lease.Release() }() // not the present lease: renewLease may change it
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// Without it net/http swallows the rest of the body before the first byte of a response.
		ex.duplex = true
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			h.answer(w, ex, appResponseFailed, fmt.Errorf("stream both ways: %w", err))
			return
		}
	}
	h.proxy.ServeHTTP(w, r.WithContext(withExchange(r.Context(), ex)))
}

// admit fills in vm, port and offer, or says why the request is refused.
func (ex *exchange) admit(r *http.Request) *answer {
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
	if granted.Purpose == purposeShell {
		return refuseShell(r)
	}
	if ex.port, err = requestedPort(r, ex.offer); err != nil {
		return &badRequest
	}
	switch {
	case !covers(granted.Ports, ex.port):
		return &portDenied
	case !vm.AcceptsHTTP():
		return &ingressDenied
	case strings.EqualFold(r.Header.Get(forceH2Header), "true"):
		return &appH2Unsupported
	}
	return nil
}

// refuseShell answers a genuine shell token, which opens no port. A shell is a WebSocket; anything
// else gets 502 (spec/behaviour.md 9).
func refuseShell(r *http.Request) *answer {
	if !isWebSocket(r) {
		return &shellNeedsWebSocket
	}
	return &shellUnavailable
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

// findVM goes by the address the client connected to if that is one of the VMs', else by the first
// label of the host.
func (h *handler) findVM(r *http.Request) (VM, bool) {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if addr := addrOf(local); AddrPool.Contains(addr) {
			return h.cfg.VMs.ByAddr(addr)
		}
	}
	label, _, _ := strings.Cut(r.Host, ".")
	if len(label) != len("00000000-0000-0000-0000-000000000000") {
		return nil, false
	}
	return h.cfg.VMs.ByEndpoint(strings.ToLower(label))
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
	ex.lease = lease
	return nil
}

// renewLease gives up a lease that went stale for a new one; the old one stays when that fails.
func (ex *exchange) renewLease(ctx context.Context) error {
	stale := ex.lease
	if err := ex.takeLease(ctx); err != nil {
		return err
	}
	stale.Release()
	return nil
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
