package netstack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCloseEndsEverythingWithAnError(t *testing.T) {
	for name, end := range map[string]func(*Stack, *testGuest){
		"closed by the daemon": func(s *Stack, _ *testGuest) { _ = s.Close() },
		"QEMU went away":       func(_ *Stack, g *testGuest) { g.unplug() },
	} {
		t.Run(name, func(t *testing.T) {
			dialling := make(chan struct{})
			world := newOutside(t)
			s, g := newPair(t, Config{
				Policy: Policy{Internet: true},
				Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					if address == "93.184.216.34:81" {
						close(dialling)
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return world.dial(ctx, network, address)
				},
				Services: map[netip.AddrPort]Handler{
					netip.MustParseAddrPort("10.0.2.4:5000"): func(c net.Conn) {
						defer c.Close()
						_, _ = io.Copy(io.Discard, c)
					},
				},
			})
			g.listen(t, 8080)
			inward := dialGuest(t, s, 8080)
			blocked := make(chan error, 2)
			go func() { _, err := inward.Read(make([]byte, 1)); blocked <- err }()
			full := dialGuest(t, s, 8080) // nobody reads there, so this write blocks once the buffers are full
			go func() { _, err := full.Write(make([]byte, 16<<20)); blocked <- err }()

			_, err := g.dial(t, "93.184.216.34:80")
			require.NoError(t, err)
			peer, err := world.Accept()
			require.NoError(t, err)
			defer peer.Close()
			_, err = g.dial(t, "10.0.2.4:5000")
			require.NoError(t, err)
			go func() { _, _ = g.dial(t, "93.184.216.34:81") }()
			<-dialling

			began := time.Now()
			end(s, g)
			for range cap(blocked) {
				err := <-blocked
				require.Error(t, err)
				require.NotErrorIs(t, err, io.EOF, "a cut stream must not look complete")
			}
			<-s.Done()
			require.Less(t, time.Since(began), 2*time.Second, "promptly, even on a loaded machine")
			require.NoError(t, s.Err())
			_, err = peer.Read(make([]byte, 1))
			require.Error(t, err, "the far end of an outward connection learns of it")
			_, err = s.DialGuest(t.Context(), 8080)
			require.ErrorIs(t, err, ErrClosed)
			require.NoError(t, s.Close(), "closing twice is fine")
		})
	}
}

func TestABrokenStreamIsReported(t *testing.T) {
	ours, theirs := net.Pipe()
	s, err := New(ours, Config{})
	require.NoError(t, err)
	require.NoError(t, s.Err(), "nothing to report while it runs")
	_, err = theirs.Write([]byte{0xff, 0xff, 0xff, 0xff})
	require.NoError(t, err)
	<-s.Done()
	require.ErrorIs(t, s.Err(), errFrameLength)
	_, err = theirs.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "QEMU's end is closed")
}

// The guest keeps its memory over a suspend, its network does not: the same guest is plugged into a
// new stack, as a resumed VM is.
func TestConnectionsFromBeforeASuspendAreReset(t *testing.T) {
	cfg := Config{Services: map[netip.AddrPort]Handler{
		netip.MustParseAddrPort("10.0.2.4:5000"): func(c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() },
	}}
	before, g := newPair(t, cfg)
	l := g.listen(t, 8080)
	dialGuest(t, before, 8080)
	served, err := l.Accept()
	require.NoError(t, err)
	outward, err := g.dial(t, "10.0.2.4:5000")
	require.NoError(t, err)
	g.unplug()
	<-before.Done()

	ours, theirs := net.Pipe()
	after, err := New(ours, cfg)
	require.NoError(t, err)
	defer after.Close()
	g.plug(theirs)
	for _, old := range []net.Conn{served, outward} {
		require.NoError(t, old.SetReadDeadline(time.Now().Add(patience)))
		_, err := old.Write([]byte("still there?"))
		if err == nil { // the guest has not noticed yet; a segment that it repeats may tell it before
			_, err = old.Read(make([]byte, 1))
		}
		require.ErrorContains(t, err, "reset")
	}
}

func TestServicesHaveAnIPv4AddressOfTheirOwn(t *testing.T) {
	for _, at := range []string{"[fd00::1]:80", "10.0.2.15:80", "10.0.2.3:53"} {
		ours, theirs := net.Pipe()
		_, err := New(ours, Config{Services: map[netip.AddrPort]Handler{netip.MustParseAddrPort(at): func(net.Conn) {}}})
		require.Error(t, err, at)
		_, err = theirs.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "the stream is closed")
	}
}

func TestAHundredStacksLeaveNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 100 {
		ours, theirs := net.Pipe()
		s, err := New(ours, Config{})
		require.NoError(t, err)
		require.NoError(t, s.Close())
		theirs.Close()
	}
	requireGoroutines(t, before)
}
