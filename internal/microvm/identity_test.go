package microvm

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// connectTo is a guest's connection to a service of its network.
func connectTo(t *testing.T, service netstack.Handler) net.Conn {
	inside, outside := net.Pipe()
	t.Cleanup(func() { inside.Close() })
	go service(outside)
	return inside
}

func get(t *testing.T, conn net.Conn) string {
	t.Helper()
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}

func TestAGuestsMetadataServiceIsMadeWhenItAsksAndStaysOverSuspends(t *testing.T) {
	var made []Identity
	metadata := func(who Identity) http.Handler {
		made = append(made, who)
		serial := len(made)
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "service ", serial) })
	}
	inWorldWith(t, func(c *Config) { c.Metadata = metadata }, func(t *testing.T, w *world) {
		const role = "arn:aws:iam::111111111111:role/app"
		id := w.run(func(rec *store.MicroVM) { rec.ExecutionRoleARN, rec.ImageARN = role, "image" }) // sealed
		require.Empty(t, made)
		service := func() netstack.Handler {
			origins := read(w.guests, &w.guests.origins)
			network := origins[len(origins)-1].network
			require.Equal(t, netstack.Policy{}, network.Policy)
			return network.Services[netip.MustParseAddrPort("169.254.169.254:80")]
		}
		require.Equal(t, "service 1", get(t, connectTo(t, service())))
		require.NoError(t, w.Suspend(t.Context(), id))
		w.becomes(id, store.VMSuspended)
		require.NoError(t, w.Resume(t.Context(), id))
		w.becomes(id, store.VMRunning)
		require.Equal(t, "service 1", get(t, connectTo(t, service())))
		require.Equal(t, []Identity{{Name: id, AccountID: account, Region: "us-east-1", ImageARN: "image", Role: role}}, made)
		other := w.run(nil)
		require.Equal(t, "service 2", get(t, connectTo(t, service())))
		require.Equal(t, Identity{Name: other, AccountID: account, Region: "us-east-1"}, made[1])
		w.passes(2 * metadataIdle) // connections end
	})
}

func TestWithoutAMetadataServiceAGuestHasNone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.run(nil)
		require.Nil(t, read(w.guests, &w.guests.origins)[0].network.Services)
	})
}

func TestAMetadataServiceKeepsTheServicesThatAreThere(t *testing.T) {
	there := map[netip.AddrPort]netstack.Handler{mirrorAddr: func(net.Conn) {}}
	got := identified(netstack.Config{Services: there}, func(net.Conn) {})
	require.Len(t, got.Services, 2)
	require.Len(t, there, 1)
}

func TestWhatAGuestCanHoldOfItsMetadataServiceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{cfg: Config{Metadata: func(Identity) http.Handler { return http.NotFoundHandler() }}}
		service := m.metadata(Identity{})
		var open atomic.Int32
		conns := make([]net.Conn, 0, metadataConnections+1)
		for range metadataConnections + 1 {
			inside, outside := net.Pipe()
			conns = append(conns, inside)
			open.Add(1)
			go func() { service(outside); open.Add(-1) }()
		}
		synctest.Wait()
		require.EqualValues(t, metadataConnections, open.Load(), "one more is closed")
		for i, conn := range conns {
			switch i % 3 {
			case 0: // silent
			case 1: // slow
				go func() {
					for {
						if _, err := conn.Write([]byte("G")); err != nil {
							return
						}
						time.Sleep(time.Second)
					}
				}()
			case 2: // endless
				go func() {
					_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nX: ")
					for {
						if _, err := io.WriteString(conn, strings.Repeat("x", 1<<10)); err != nil {
							return
						}
					}
				}()
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
		time.Sleep(metadataReading + time.Second)
		synctest.Wait()
		require.Zero(t, open.Load())
	})
}
