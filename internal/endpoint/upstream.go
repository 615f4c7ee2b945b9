package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/singleflight"
)

const (
	// dialTimeout bounds connecting to a guest that serves; it is host-local and takes milliseconds.
	dialTimeout = 10 * time.Second
	// idleUpstream is how long an unused connection to a guest is kept. The proxy must be the one
	// to close it: a server that closes first loses the request that is on its way. gunicorn waits
	// 2 s, uvicorn and Node 5 s.
	idleUpstream = time.Second
	// maxUpstreamPerPort and maxUpstream bound unused connections, which cost about 50 KiB each.
	maxUpstreamPerPort = 64
	maxUpstream        = 1024
	// upstreamBuffer is bytes per direction and connection: large enough to move a body in few
	// steps through the guest's network stack.
	upstreamBuffer = 16 << 10
	// maxResponseHeader bounds what a guest may send as headers, in bytes.
	maxResponseHeader = 64 << 10
	// maxInformational bounds the 1xx responses before the response: progress reports, not a stream.
	maxInformational = 100
	// maxTurns bounds how often one request is sent another way: HTTP/2, then HTTP/1.1, then TLS.
	maxTurns = 3
)

var (
	errDial             = errors.New("connect to guest")
	errRequestBody      = errors.New("read request body")
	errTooInformational = errors.New("app sends 1xx responses without end")
)

// upstream sends requests to guests. One connection pool per way serves all VMs: the pool's key is the
// "host" of the request's URL, made of VM, generation and port, so a connection of a generation
// that ended is never found again and no pool has to be torn down when a VM ends.
type upstream struct {
	clock      clockwork.Clock
	ports      *portMemory
	probes     singleflight.Group // by "host", as above
	transports [ways]*http.Transport
}

func newUpstream(clock clockwork.Clock) *upstream {
	u := &upstream{clock: clock, ports: newPortMemory()}
	for via := range u.transports {
		u.transports[via] = u.newTransport(way(via))
	}
	return u
}

func (u *upstream) newTransport(via way) *http.Transport {
	t := &http.Transport{
		DialContext:            u.dialPlain,
		DialTLSContext:         u.dialTLS,
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConns:           maxUpstream,
		MaxIdleConnsPerHost:    maxUpstreamPerPort,
		IdleConnTimeout:        idleUpstream,
		ExpectContinueTimeout:  time.Second, // then the body is sent uninvited, RFC 9110 10.1.1
		MaxResponseHeaderBytes: maxResponseHeader,
		ReadBufferSize:         upstreamBuffer,
		WriteBufferSize:        upstreamBuffer,
		Protocols:              new(http.Protocols),
		HTTP2:                  guestWindows(),
	}
	switch via {
	case plainHTTP1, tlsHTTP1:
		t.Protocols.SetHTTP1(true)
	case plainHTTP2:
		t.Protocols.SetUnencryptedHTTP2(true)
		t.DialContext = u.dialHTTP2
	case tlsByALPN:
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
	}
	return t
}

// RoundTrip sends a request whose context holds its exchange. A request that a suspend cut takes a
// new lease and goes again, where that is safe (resend.go); one that finds its app speaking another
// protocol goes again in that one.
func (u *upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	ex := exchangeOf(req)
	w := wishesOf(req)
	via := w.choose(u.ports.get(ex.app()))
	if req.Body != nil {
		ex.body = newRequestBody(req.Body, req.Trailer, u.clock, ex.stopReading)
		ex.body.keep(u.keeps(ex, req.Method, via))
	}
	for sends, turns := 1, 0; ; {
		began := u.clock.Now()
		s := u.send(req, ex, via)
		if s.err = ex.cut(s.err); sends < maxSends && ex.mayGoAgain(req, s.err, u.clock.Since(began)) {
			sends++
			if err := ex.renewLease(req.Context()); err != nil {
				return nil, err
			}
			continue
		}
		next, turn := u.judge(req.Context(), s, w)
		if turns++; !turn || turns > maxTurns || !ex.body.rewind() {
			if s.err == nil {
				ex.lease.Answered(kindOf(s.res))
				s.served()
			}
			return s.res, s.err
		}
		if s.res != nil {
			_ = s.res.Body.Close() // it only said which protocol to speak
		}
		via = next
	}
}

// target is where one sending of a request goes. Dialling may go on after that request has ended
// (http.Transport keeps the connection for the next one), so a target never changes.
type target struct {
	lease Lease
	vm    string
	port  uint16
	via   way
	host  string // the client's Host, the TLS server name
}

type targetKey struct{}

// pool is the key of connections that may be used in place of each other.
func (to *target) pool() string {
	return to.vm + "." + strconv.FormatUint(to.lease.Generation(), 10) + ":" + strconv.Itoa(int(to.port))
}

// sending is one try to get a request to its app, and what became of it. http.Transport may make
// two of it, when a connection of the pool turns out to be dead.
type sending struct {
	to   *target
	conn *meteredConn // the one used last; nil if there was none
	body *bodySending // what is being sent on it; nil = no body
	info int          // 1xx responses so far
	res  *http.Response
	err  error
}

// send sends a request once, over ex's present lease.
func (u *upstream) send(req *http.Request, ex *exchange, via way) *sending {
	s := &sending{to: &target{lease: ex.lease, vm: ex.vm.ID(), port: ex.port, via: via, host: req.Host}}
	ctx := context.WithValue(ex.base, targetKey{}, s.to)
	ctx = httptrace.WithClientTrace(ctx, s.trace(httptrace.ContextClientTrace(req.Context())))
	out := req.WithContext(ctx)
	out.URL = &url.URL{
		Scheme:   via.scheme(),
		Host:     s.to.pool(),
		Path:     req.URL.Path,
		RawPath:  req.URL.RawPath,
		RawQuery: req.URL.RawQuery, ForceQuery: req.URL.ForceQuery,
	}
	if ex.body != nil {
		s.body = ex.body.sending()
		out.Body, out.GetBody, out.Trailer = s.body, s.again, s.body.trailer
	}
	s.res, s.err = u.transports[via].RoundTrip(out) //nolint:bodyclose // whoever gets s.res does
	if s.err != nil && s.conn != nil {
		if failure := s.conn.failure.Load(); failure != nil {
			s.err = errors.Join(s.err, *failure) // HTTP/2 does not always tell it
		}
	}
	return s
}

// again is http.Request.GetBody: it lets http.Transport send a request again that the app has not
// begun to look at, because the pooled connection had just been closed or the app said so (GOAWAY).
func (s *sending) again() (body io.ReadCloser, err error) {
	if s.body, err = s.body.again(); err != nil {
		return nil, err
	}
	return s.body, nil
}

// served is called when the response is the app's: nothing will have to be sent again.
func (s *sending) served() {
	if s.body != nil {
		s.body.settle()
	}
	if s.res.StatusCode == http.StatusSwitchingProtocols && s.conn != nil {
		s.conn.patient.Store(false) // both directions end by themselves
	}
}

// trace watches which connection is used, and passes on what the proxy wants to know of. It takes the
// place of the proxy's own trace instead of being composed with it, which takes reflection and cannot
// refuse a 1xx response.
func (s *sending) trace(proxy *httptrace.ClientTrace) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) {
			if s.conn = meteredConnOf(got.Conn); s.conn != nil {
				s.conn.carries(s.body)
			}
		},
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			if s.info++; s.info > maxInformational {
				return errTooInformational
			}
			if proxy == nil || proxy.Got1xxResponse == nil {
				return nil
			}
			deletePlatformHeaders(http.Header(header))
			return proxy.Got1xxResponse(code, header)
		},
	}
}

func (u *upstream) dialPlain(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := u.dial(ctx)
	if err != nil {
		return nil, err
	}
	conn.patient.Store(true)
	return conn, nil
}

// dialHTTP2 is for HTTP/2 with prior knowledge: nothing of a request leaves before the app has shown
// that it speaks it.
func (u *upstream) dialHTTP2(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := u.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &prefacedConn{meteredConn: conn}, nil
}

// dialTLS does not verify the app's certificate: the connection does not leave the guest's loopback, where
// the app is alone with itself.
func (u *upstream) dialTLS(ctx context.Context, _, _ string) (net.Conn, error) {
	to := ctx.Value(targetKey{}).(*target)
	raw, err := u.dial(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := clockwork.WithTimeout(ctx, u.clock, handshakeTimeout)
	defer cancel()
	conn := tls.Client(raw, u.tlsConfig(to))
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("%w with port %d: %w", errHandshake, to.port, err)
	}
	raw.patient.Store(conn.ConnectionState().NegotiatedProtocol != "h2")
	return conn, nil
}

func (u *upstream) dial(ctx context.Context) (*meteredConn, error) {
	to := ctx.Value(targetKey{}).(*target)
	ctx, cancel := clockwork.WithTimeout(ctx, u.clock, dialTimeout)
	defer cancel()
	conn, err := to.lease.Dial(ctx, to.port)
	if err != nil {
		return nil, fmt.Errorf("%w port %d: %w", errDial, to.port, err)
	}
	return newMeteredConn(conn, to.lease, u.clock), nil
}
