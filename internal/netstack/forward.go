package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/dormouse-dev/dormouse/internal/netstack/greeting"
)

// copyBuffer is what each direction of an outward connection copies at once.
const copyBuffer = 32 << 10 // bytes

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// accept takes a connection that the guest makes, in a goroutine of its own: to a service of the
// stack, or outwards if the policy allows it. What is refused gets a RST.
func (s *Stack) accept(request *tcp.ForwarderRequest) {
	if !s.enter() {
		request.Complete(false)
		return
	}
	defer s.leave()
	id := request.ID()
	to := netip.AddrPortFrom(address(id.LocalAddress.AsSlice()), id.LocalPort)
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.deny(Denial{Destination: to, Rule: RuleTooMany})
		request.Complete(true)
		return
	}
	if handler, ok := s.services[to]; ok {
		s.serve(request, handler)
		return
	}
	names := s.names.of(to.Addr(), s.cfg.Clock.Now())
	v := s.judge(to, names)
	if v.rule != allowed {
		s.deny(Denial{Destination: to, Name: first(names), Rule: v.rule, Network: v.network})
		request.Complete(true)
		return
	}
	s.forward(request, to, v.named)
}

func first(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// judge applies the policy to the address that would be dialled now.
func (s *Stack) judge(to netip.AddrPort, names []string) verdict {
	host, err := s.cfg.HostAddrs()
	if err != nil {
		return verdict{rule: RuleHost} // not knowing which addresses are the host's, none is safe
	}
	return s.cfg.Policy.check(to, names, host)
}

// deny reports a refusal.
func (s *Stack) deny(d Denial) {
	s.meter.Denied.Add(1)
	s.cfg.Denied(d)
}

// handshake answers the guest's SYN; nil when the guest went away meanwhile.
func (s *Stack) handshake(request *tcp.ForwarderRequest) *conn {
	events := new(waiter.Queue)
	endpoint, err := request.CreateEndpoint(events)
	request.Complete(err != nil)
	if err != nil {
		return nil
	}
	return newConn(events, endpoint)
}

func (s *Stack) serve(request *tcp.ForwarderRequest, handler Handler) {
	c := s.handshake(request)
	if c == nil {
		return
	}
	handler(c)
	c.waitGone()
}

// forward dials first and answers the guest then, so that the guest sees a refusal as a refusal.
// Where the destination is allowed for names only, nothing goes out before the guest has told one.
func (s *Stack) forward(request *tcp.ForwarderRequest, to netip.AddrPort, named bool) {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.ConnectTimeout)
	defer cancel()
	outside, err := s.cfg.Dial(ctx, "tcp", to.String())
	if err != nil {
		request.Complete(true)
		return
	}
	defer outside.Close()
	inside := s.handshake(request)
	if inside == nil {
		return
	}
	stop := context.AfterFunc(s.ctx, func() { outside.Close() })
	defer stop()
	if named && !s.introduce(inside, outside, to) {
		inside.abort()
		inside.waitGone()
		return
	}
	var sent sync.WaitGroup
	sent.Go(func() { s.pump(outside, inside, inside, outside, &s.meter.Sent) })
	s.pump(inside, outside, inside, outside, &s.meter.Received)
	sent.Wait()
	inside.Close()
	inside.waitGone()
}

// greetingLimit is how long a guest may take to name the host it wants. Clients speak at once; under
// emulation the first handshake of a program takes seconds.
const greetingLimit = 15 * time.Second

// introduce reads which host the guest wants and passes on what it has read, if the policy admits
// that host.
func (s *Stack) introduce(inside *conn, outside net.Conn, to netip.AddrPort) bool {
	timer := s.cfg.Clock.AfterFunc(greetingLimit, inside.abort)
	name, read, err := greeting.Read(inside, to.Port() == plainPort)
	if !timer.Stop() && err == nil {
		err = os.ErrDeadlineExceeded // it came too late: the connection has ended
	}
	switch {
	case s.ctx.Err() != nil, len(read) == 0 && errors.Is(err, io.EOF): // nothing was asked for
		return false
	case err != nil:
		s.deny(Denial{Destination: to, Rule: RuleNoName})
		return false
	case !s.cfg.Policy.admits(name, to):
		s.deny(Denial{Destination: to, Name: name, Rule: RuleOtherName})
		return false
	}
	_, err = s.counted(outside, &s.meter.Sent).Write(read)
	return err == nil
}

// plainPort is where requests of plaintext HTTP are understood. On other ports only TLS is.
const plainPort = 80

// pump copies one direction until its end and passes the end on. A broken direction breaks both.
func (s *Stack) pump(dst, src net.Conn, inside *conn, outside net.Conn, count *atomic.Uint64) {
	buffer := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buffer)
	// Only the plain methods: net.TCPConn's ReadFrom and WriteTo would allocate a buffer each.
	_, err := io.CopyBuffer(struct{ io.Writer }{s.counted(dst, count)}, struct{ io.Reader }{src}, buffer[:])
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil {
		inside.abort()
		outside.Close()
	}
}

func (s *Stack) counted(w io.Writer, count *atomic.Uint64) counted {
	return counted{w, count, s.cfg.Moved}
}

// counted adds what was written to a counter.
type counted struct {
	io.Writer
	count *atomic.Uint64
	moved func() // may be nil
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.count.Add(uint64(n))
	if c.moved != nil {
		c.moved()
	}
	return n, err
}
