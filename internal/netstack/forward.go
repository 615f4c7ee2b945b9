package netstack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
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
		s.deny(to, RuleTooMany)
		request.Complete(true)
		return
	}
	if handler, ok := s.services[to]; ok {
		s.serve(request, handler)
		return
	}
	if rule := s.judge(to.Addr()); rule != allowed {
		s.deny(to, rule)
		request.Complete(true)
		return
	}
	s.forward(request, to)
}

// judge applies the policy to the address that would be dialled now.
func (s *Stack) judge(to netip.Addr) Rule {
	host, err := s.cfg.HostAddrs()
	if err != nil {
		return RuleHost // not knowing which addresses are the host's, none is safe
	}
	return s.cfg.Policy.check(to, host)
}

func (s *Stack) deny(to netip.AddrPort, rule Rule) {
	s.denied.Add(1)
	if s.denials.AllowN(s.cfg.Clock.Now(), 1) {
		s.cfg.Denied(Denial{Destination: to, Rule: rule})
	}
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
func (s *Stack) forward(request *tcp.ForwarderRequest, to netip.AddrPort) {
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
	var sent sync.WaitGroup
	sent.Go(func() { s.pump(outside, inside, inside, outside, &s.egressSent) })
	s.pump(inside, outside, inside, outside, &s.egressReceived)
	sent.Wait()
	inside.Close()
	inside.waitGone()
}

// pump copies one direction until its end and passes the end on. A broken direction breaks both.
func (s *Stack) pump(dst, src net.Conn, inside *conn, outside net.Conn, count *atomic.Uint64) {
	buffer := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buffer)
	// Only the plain methods: net.TCPConn's ReadFrom and WriteTo would allocate a buffer each.
	_, err := io.CopyBuffer(struct{ io.Writer }{counted{dst, count}}, struct{ io.Reader }{src}, buffer[:])
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
	}
	if err != nil {
		inside.abort()
		outside.Close()
	}
}

// counted adds what was written to a counter.
type counted struct {
	io.Writer
	count *atomic.Uint64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.count.Add(uint64(n))
	return n, err
}
