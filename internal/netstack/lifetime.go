package netstack

import (
	"errors"
	"io"
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// abortInterval is how often the end of a stack looks for connections that were just being made
// when it began. One look is enough unless a handshake raced with it.
const abortInterval = 5 * time.Millisecond

// run lives as long as the frame stream and then takes the stack down, whoever ended it.
func (s *Stack) run() {
	defer close(s.done)
	err := s.link.readFrames()
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
		s.err = err
	}
	_ = s.link.conn.Close() // the stream is over; a second close says nothing new

	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.abortAll()
}

// abortAll ends every connection with an error and returns when nothing of the stack runs any more.
func (s *Stack) abortAll() {
	idle := make(chan struct{})
	go func() {
		s.tasks.Wait()
		close(idle)
	}()
	s.net.Close()
	for waiting := true; waiting; {
		select {
		case <-idle:
			waiting = false
		case <-s.cfg.Clock.After(abortInterval):
			for _, endpoint := range s.net.RegisteredEndpoints() {
				endpoint.Abort()
			}
		}
	}
	// Not stack.Wait: it would sit out the TIME_WAIT of connections that are over.
	s.net.TransportProtocolInstance(tcp.ProtocolNumber).Wait()
	s.net.RemoveNIC(nic)
}

// enter registers a task that the end of the stack waits for; false when the stack has ended.
// The task calls leave.
func (s *Stack) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.tasks.Add(1)
	return true
}

func (s *Stack) leave() { s.tasks.Done() }

// start runs a task in a goroutine of its own.
func (s *Stack) start(task func()) bool {
	if !s.enter() {
		return false
	}
	go func() {
		defer s.leave()
		task()
	}()
	return true
}

// Close ends every connection of the VM and the frame stream, and waits until nothing of the stack
// runs any more. Calling it from a Handler waits forever.
func (s *Stack) Close() error {
	_ = s.link.conn.Close() // run sees the stream end and does the rest
	<-s.done
	return nil
}

// Done is closed when the stack has ended, by Close or because the frame stream did.
func (s *Stack) Done() <-chan struct{} { return s.done }

// Err says why the frame stream ended, once Done is closed: nil after Close or when QEMU went away,
// an error when the stream was broken or the guest sent a frame of a forbidden length.
func (s *Stack) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Counters returns the totals so far; after Close, the last ones.
func (s *Stack) Counters() Counters {
	return Counters{
		FramesIn:       s.link.framesIn.Load(),
		BytesIn:        s.link.bytesIn.Load(),
		FramesOut:      s.link.framesOut.Load(),
		BytesOut:       s.link.bytesOut.Load(),
		EgressSent:     s.meter.Sent.Load(),
		EgressReceived: s.meter.Received.Load(),
		Denied:         s.meter.Denied.Load(),
	}
}
