package netstack

import (
	"io"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// socketPair is a frame stream as QEMU's: two ends of a unix socket.
func socketPair(b *testing.B) (ours, theirs net.Conn) {
	b.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(b, err)
	ends := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "frames")
		ends[i], err = net.FileConn(f)
		require.NoError(b, err)
		f.Close()
	}
	return ends[0], ends[1]
}

func benchPair(b *testing.B) (*Stack, *testGuest) {
	b.Helper()
	ours, theirs := socketPair(b)
	s, err := New(ours, Config{})
	require.NoError(b, err)
	g := newGuest(b, theirs)
	b.Cleanup(func() { s.Close() })
	return s, g
}

func BenchmarkDial(b *testing.B) {
	s, g := benchPair(b)
	g.echo(b, 8080)
	for b.Loop() {
		c, err := s.DialGuest(b.Context(), 8080)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	s, g := benchPair(b)
	g.echo(b, 8080)
	c := dialGuest(b, s, 8080)
	var one [1]byte
	for b.Loop() {
		if _, err := c.Write(one[:]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, one[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkThroughput(b *testing.B) {
	block := make([]byte, 1<<20)
	b.Run("to the guest", func(b *testing.B) {
		s, g := benchPair(b)
		l := g.listen(b, 8080)
		c := dialGuest(b, s, 8080)
		accepted, err := l.Accept()
		require.NoError(b, err)
		go io.Copy(io.Discard, accepted)
		b.SetBytes(int64(len(block)))
		for b.Loop() {
			if _, err := c.Write(block); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("from the guest", func(b *testing.B) {
		s, g := benchPair(b)
		l := g.listen(b, 8080)
		c := dialGuest(b, s, 8080)
		accepted, err := l.Accept()
		require.NoError(b, err)
		go func() {
			for {
				if _, err := accepted.Write(block); err != nil {
					return
				}
			}
		}()
		got := make([]byte, len(block))
		b.SetBytes(int64(len(block)))
		for b.Loop() {
			if _, err := io.ReadFull(c, got); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkIdleStack reports what a running VM's network costs the daemon while nothing happens.
func BenchmarkIdleStack(b *testing.B) {
	const count = 200
	var before, after runtime.MemStats
	goroutines := runtime.NumGoroutine()
	runtime.GC()
	runtime.ReadMemStats(&before)
	stacks := make([]*Stack, count)
	for i := range stacks {
		ours, theirs := socketPair(b)
		s, err := New(ours, Config{})
		require.NoError(b, err)
		defer theirs.Close()
		stacks[i] = s
	}
	goroutines = runtime.NumGoroutine() - goroutines
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		runtime.KeepAlive(stacks)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/count/1024, "heapKiB/stack")
	b.ReportMetric(float64(after.StackInuse-before.StackInuse)/count/1024, "goroutineKiB/stack")
	b.ReportMetric(float64(after.Sys-before.Sys)/count/1024, "sysKiB/stack")
	b.ReportMetric(float64(goroutines)/count, "goroutines/stack")
	for _, s := range stacks {
		s.Close()
	}
}
