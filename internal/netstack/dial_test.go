package netstack

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

func TestADialReachesTheGuestFromTheGatewayAddress(t *testing.T) {
	s, g := newPair(t, Config{})
	l := g.listen(t, 8080)
	c := dialGuest(t, s, 8080)
	accepted, err := l.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	from, err := netip.ParseAddrPort(accepted.RemoteAddr().String())
	require.NoError(t, err)
	require.Equal(t, guest.GatewayIP, from.Addr().String())
	require.Equal(t, "10.0.2.15:8080", c.RemoteAddr().String())
}

func TestBytesSurviveTheRoundTripAndAHalfClose(t *testing.T) {
	s, g := newPair(t, Config{})
	g.echo(t, 8080)
	c := dialGuest(t, s, 8080)
	sent := make([]byte, 3<<20)
	_, _ = rand.Read(sent)
	go func() {
		_, _ = c.Write(sent)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got), "%d bytes sent, %d came back", len(sent), len(got))

	counters := s.Counters()
	require.Greater(t, counters.BytesIn, uint64(len(sent)))
	require.Greater(t, counters.BytesOut, uint64(len(sent)))
	require.Zero(t, counters.EgressSent, "the host dialled in; that is no egress")
}

func TestManyConnectionsAtOnceKeepTheirBytesApart(t *testing.T) {
	s, g := newPair(t, Config{})
	g.echo(t, 8080)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			c, err := s.DialGuest(t.Context(), 8080)
			if !assert.NoError(t, err) {
				return
			}
			defer c.Close()
			sent := bytes.Repeat([]byte{byte(i)}, 20_000+i)
			go func() {
				_, _ = c.Write(sent)
				_ = c.(*conn).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			assert.NoError(t, err)
			assert.True(t, bytes.Equal(sent, got), "connection %d: %d of %d bytes", i, len(got), len(sent))
		})
	}
	all.Wait()
}

func TestAPortNobodyListensOnIsRefused(t *testing.T) {
	s, _ := newPair(t, Config{})
	_, err := s.DialGuest(t.Context(), 8081)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestDeadlinesEndBlockedReads(t *testing.T) {
	s, g := newPair(t, Config{})
	g.listen(t, 8080)
	c := dialGuest(t, s, 8080)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestReadingAClosedConnectionIsAnErrorAndNotItsEnd(t *testing.T) {
	s, g := newPair(t, Config{})
	g.listen(t, 8080)
	c := dialGuest(t, s, 8080)
	require.NoError(t, c.Close())
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestADialEndsWithItsContext(t *testing.T) {
	ours, theirs := net.Pipe() // nobody answers
	defer theirs.Close()
	s, err := New(ours, Config{})
	require.NoError(t, err)
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	_, err = s.DialGuest(ctx, 8080)
	require.ErrorIs(t, err, context.Canceled)
}

// A guest that is being restored may lose the first SYN. The test takes the guest's place on the
// wire, loses a few, and sees the same one again each time the clock moves.
func TestALostSYNIsRepeatedUnchangedAndFast(t *testing.T) {
	ours, theirs := net.Pipe()
	clock := clockwork.NewFakeClock()
	s, err := New(ours, Config{Clock: clock})
	require.NoError(t, err)
	frames := newFrameReader(theirs)
	dialled := make(chan error, 1)
	go func() {
		_, err := s.DialGuest(t.Context(), 8080)
		dialled <- err
	}()
	first := nextFrame(t, frames)
	syn := header.TCP(header.IPv4(first[header.EthernetMinimumSize:]).Payload())
	require.Equal(t, header.TCPFlagSyn, syn.Flags())
	require.Equal(t, uint16(8080), syn.DestinationPort())
	for pause := firstRepeat; pause < 100*time.Millisecond; pause *= 2 {
		require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
		clock.Advance(pause)
		require.Equal(t, first, nextFrame(t, frames))
	}
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-dialled, ErrClosed)
	require.Empty(t, s.link.syns, "nothing is kept after the dial")
}

func nextFrame(t *testing.T, frames *frameReader) []byte {
	t.Helper()
	frame, err := frames.next()
	require.NoError(t, err)
	defer frame.Release()
	return bytes.Clone(frame.AsSlice())
}

// stutter writes the first thing it is given five times.
type stutter struct {
	net.Conn
	once sync.Once
}

func (s *stutter) Write(b []byte) (int, error) {
	s.once.Do(func() {
		for range 4 {
			_, _ = s.Conn.Write(b)
		}
	})
	return s.Conn.Write(b)
}

// Repeated SYNs that were queued while the guest was paused all arrive at once in the end.
func TestRepeatedSYNsMakeOneConnection(t *testing.T) {
	ours, theirs := net.Pipe()
	g := newGuest(t, theirs)
	l := g.listen(t, 8080)
	s, err := New(&stutter{Conn: ours}, Config{})
	require.NoError(t, err)
	defer s.Close()
	for range 2 { // the second connection is behind whatever the first one's SYNs may have made
		c := dialGuest(t, s, 8080)
		accepted, err := l.Accept()
		require.NoError(t, err)
		require.Equal(t, c.LocalAddr().String(), accepted.RemoteAddr().String())
		_, err = c.Write([]byte("one"))
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		got, err := io.ReadAll(accepted)
		require.NoError(t, err)
		require.Equal(t, "one", string(got))
		require.NoError(t, accepted.Close())
	}
}
