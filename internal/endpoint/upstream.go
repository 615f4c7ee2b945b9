package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
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
)

var (
	errDial        = errors.New("connect to guest")
	errRequestBody = errors.New("read request body")
)

// upstream sends requests to guests. One connection pool serves all VMs: the pool's key is the
// "host" of the request's URL, made of VM, generation and port, so a connection of a generation
// that ended is never found again and no pool has to be torn down when a VM ends.
type upstream struct {
	clock clockwork.Clock
	http1 *http.Transport
}

func newUpstream(clock clockwork.Clock) *upstream {
	u := &upstream{clock: clock}
	u.http1 = &http.Transport{
		DialContext:            u.dial,
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConns:           maxUpstream,
		MaxIdleConnsPerHost:    maxUpstreamPerPort,
		IdleConnTimeout:        idleUpstream,
		ExpectContinueTimeout:  time.Second, // then the body is sent uninvited, RFC 9110 10.1.1
		MaxResponseHeaderBytes: maxResponseHeader,
		ReadBufferSize:         upstreamBuffer,
		WriteBufferSize:        upstreamBuffer,
	}
	return u
}

// target is where one sending of a request goes. Dialling may go on after that request has ended
// (http.Transport keeps the connection for the next one), so a target never changes.
type target struct {
	lease Lease
	port  uint16
}

type targetKey struct{}

// RoundTrip sends a request whose context holds its exchange. A request that a suspend cut takes a
// new lease and goes again, where that is safe (resend.go).
func (u *upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	ex := exchangeOf(req)
	if req.Body != nil {
		ex.body = &requestBody{from: req.Body}
	}
	for sends := 1; ; sends++ {
		sent := u.clock.Now()
		res, err := u.http1.RoundTrip(outgoing(req, ex))
		if err == nil {
			ex.lease.Answered(kindOf(res))
			return res, nil
		}
		if err = ex.cut(err); sends == maxSends || !ex.mayGoAgain(req, err, u.clock.Since(sent)) {
			return nil, err
		}
		if err := ex.renewLease(req.Context()); err != nil {
			return nil, err
		}
	}
}

// outgoing returns req addressed to ex's present lease.
func outgoing(req *http.Request, ex *exchange) *http.Request {
	to := &target{lease: ex.lease, port: ex.port}
	out := req.WithContext(context.WithValue(req.Context(), targetKey{}, to))
	out.URL = &url.URL{
		Scheme:   "http",
		Host:     ex.vm.ID() + "." + strconv.FormatUint(to.lease.Generation(), 10) + ":" + strconv.Itoa(int(to.port)),
		Path:     req.URL.Path,
		RawPath:  req.URL.RawPath,
		RawQuery: req.URL.RawQuery,
	}
	if ex.body != nil {
		out.Body, out.GetBody = ex.body, ex.body.again
	}
	return out
}

func (u *upstream) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	to := ctx.Value(targetKey{}).(*target)
	ctx, cancel := clockwork.WithTimeout(ctx, u.clock, dialTimeout)
	defer cancel()
	conn, err := to.lease.Dial(ctx, to.port)
	if err != nil {
		return nil, fmt.Errorf("%w port %d: %w", errDial, to.port, err)
	}
	return &meteredConn{Conn: conn, lease: to.lease}, nil
}

// meteredConn reports every byte to and from the guest as use of the VM.
type meteredConn struct {
	net.Conn
	lease Lease
}

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.lease.Touch(n)
	}
	return n, err
}

func (c *meteredConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.lease.Touch(n)
	}
	return n, err
}

// CloseWrite passes on the end of one direction of an upgraded connection.
func (c *meteredConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("close one direction to guest: %w", errors.ErrUnsupported)
}

// requestBody is a client's body on its way to the guest. Closing it does nothing, because the
// client's side is closed by the server, and it can be sent again as long as none of it was read.
type requestBody struct {
	from  io.Reader
	read  atomic.Bool // some of it
	ended atomic.Bool // all of it
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	n, err := b.from.Read(p)
	switch {
	case err == io.EOF:
		b.ended.Store(true)
	case err != nil:
		err = fmt.Errorf("%w: %w", errRequestBody, err)
	}
	return n, err
}

func (b *requestBody) Close() error { return nil }

// again is http.Request.GetBody: it lets http.Transport send a request again that it could not even
// begin to write, because the pooled connection had just been closed by the app.
func (b *requestBody) again() (io.ReadCloser, error) {
	if b.read.Load() {
		return nil, errors.New("part of the request body is already sent")
	}
	return b, nil
}
