package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/test/e2e/daemon"
)

// press opens n connections to an address, from many addresses, which do nothing more than greet says.
func press(t *testing.T, n int, to string, greet func(net.Conn) error) {
	t.Helper()
	for i := range n {
		from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i%100+1))}
		conn, err := (&net.Dialer{LocalAddr: from, Timeout: httpLimit}).Dial("tcp", to)
		require.NoError(t, err, "connection %d", i)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, greet(conn), "connection %d", i)
	}
}

// p99 is the 99th percentile of what requests take that all must be answered.
func (v *microVM) p99() time.Duration {
	v.t.Helper()
	var took []time.Duration
	for range 100 {
		began := time.Now()
		v.ask(http.MethodGet, "/time", "")
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

func TestPressureOnOneMicroVMDoesNotReachAnother(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 2)
	pressed, other := h.runUntilRunning(t, image.arn, nil), h.runUntilRunning(t, image.arn, nil)
	alone := other.keptAlive().p99()
	// More than there is room for, and half of them in the middle of a handshake.
	press(t, min(5000, endpoint.DefaultMaxConnections()/2), pressed.at, func(conn net.Conn) error {
		if conn.LocalAddr().(*net.TCPAddr).Port%4 < 2 {
			return nil
		}
		_, err := io.WriteString(conn, "\x16\x03\x01\x02\x00\x01")
		return err
	})
	under := other.keptAlive().p99()
	t.Logf("p99 %v alone, %v under pressure", alone, under)
	require.Less(t, under, 10*alone+time.Second)
	pressed.count() // and there is room at its own door, too
}

// The memory of the daemon alone, while nothing else happens in it.
func TestAnIdleConnectionCostsTheDaemonLittleMemory(t *testing.T) {
	t.Parallel()
	d, err := daemon.New(context.Background(), os.Getenv("DORMOUSE_DATA_DIR"))
	require.NoError(t, err)
	require.NoError(t, d.Start())
	t.Cleanup(func() { require.NoError(t, d.Remove()) })
	t.Cleanup(func() { require.NoError(t, d.Stop()) })
	text, err := os.ReadFile(filepath.Join(d.Dir, "daemon.json"))
	require.NoError(t, err)
	var serving struct {
		PID      int
		Endpoint string
	}
	require.NoError(t, json.Unmarshal(text, &serving))

	n := min(2000, endpoint.DefaultMaxConnections()/4) // as many as may be there without a token
	before := memoryOf(t, serving.PID)
	press(t, n, serving.Endpoint, func(conn net.Conn) error {
		secure := tls.Client(conn, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}) //nolint:gosec // only its memory matters
		if err := secure.HandshakeContext(context.Background()); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(secure, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return err
		}
		_, err := secure.Read(make([]byte, 1024))
		return err
	})
	each := (memoryOf(t, serving.PID) - before) / n
	t.Logf("%d KiB for each of %d connections", each>>10, n)
	require.Less(t, each, 100<<10)
}

var residentKiB = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// memoryOf is what a process has of the host's memory, in bytes.
func memoryOf(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	found := residentKiB.FindSubmatch(status)
	require.NotNil(t, found)
	kib, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	return kib << 10
}
