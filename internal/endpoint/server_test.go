package endpoint

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// expose gives the world's VM a 127/8 address of its own.
func (w *world) expose(t *testing.T, addr string) {
	t.Helper()
	w.vmAddr = netip.MustParseAddr(addr)
	require.NoError(t, w.Expose(w.vmAddr))
}

func TestVMIsReachedByItsOwnAddress(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		var host string
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { host = r.Host }))
		w.expose(t, "127.99.1.2")
		require.NoError(t, w.Expose(w.vmAddr), "repeating it is harmless")

		endpoint := w.EndpointHost(testEndpoint, "127.99.1.2")
		r := w.request(t, http.MethodGet, "/")
		r.URL.Host, r.Host = endpoint, ""
		res, _ := get(t, client, r)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Equal(t, endpoint, host)

		w.Withdraw(w.vmAddr)
		w.Withdraw(w.vmAddr)
		_, err := net.Dial("tcp", endpoint)
		require.Error(t, err)
		require.NoError(t, w.Expose(w.vmAddr), "an address can be used again")
	})
}

func TestAddressDecidesWhateverTheHostHeaderSays(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w.expose(t, "127.99.1.3")
	other := netip.MustParseAddr("127.99.1.4") // listens, but is no VM's
	require.NoError(t, w.Expose(other))
	client := w.client(t)

	r := w.request(t, http.MethodGet, "/")
	r.URL.Host, r.Host = w.EndpointHost("", "127.99.1.3"), "app.example.org"
	res, _ := get(t, client, r)
	require.Equal(t, http.StatusOK, res.StatusCode)

	r = w.request(t, http.MethodGet, "/")
	r.URL.Host, r.Host = w.EndpointHost("", other.String()), testHost
	res, body := get(t, client, r)
	requireAnswer(t, authFailed, res, body)
}

func TestEndpointHostNamesThePortUnlessItIs443(t *testing.T) {
	w := newWorld(t)
	_, port, err := net.SplitHostPort(w.general)
	require.NoError(t, err)
	require.Equal(t, testEndpoint+".localhost:"+port, w.EndpointHost(testEndpoint, ""))
	require.Equal(t, "127.64.0.1:"+port, w.EndpointHost(testEndpoint, "127.64.0.1"))

	standard := &Server{cfg: Config{Domain: "vms.example.org"}, general: fixedAddr{}}
	require.Equal(t, testEndpoint+".vms.example.org", standard.EndpointHost(testEndpoint, ""))
}

// fixedAddr is a listener on port 443 of all addresses.
type fixedAddr struct{ net.Listener }

func (fixedAddr) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6zero, Port: 443} }

func TestInModeDomainNoAddressIsOpenedAndNamesAreTold(t *testing.T) {
	s := &Server{cfg: Config{Mode: ModeDomain, Domain: "vms.example.org"}, general: fixedAddr{}, exposed: make(map[netip.Addr]net.Listener)}
	require.NoError(t, s.Expose(netip.MustParseAddr("127.64.0.1")))
	require.Empty(t, s.exposed)
	require.Equal(t, testEndpoint+".vms.example.org", s.EndpointHost(testEndpoint, "127.64.0.1"))
}

func TestModeIPNeedsAListenerOnLoopback(t *testing.T) {
	_, err := New(Config{Listen: "0.0.0.0:0", Mode: ModeIP})
	require.ErrorIs(t, err, errNotOnLoopback)
}

func TestExposeReportsAnAddressInUse(t *testing.T) {
	w := newWorld(t)
	_, port, err := net.SplitHostPort(w.general)
	require.NoError(t, err)
	taken, err := net.Listen("tcp", net.JoinHostPort("127.99.1.5", port))
	require.NoError(t, err)
	defer taken.Close()
	require.ErrorContains(t, w.Expose(netip.MustParseAddr("127.99.1.5")), "127.99.1.5")
}

func TestTLSSessionsAreResumed(t *testing.T) {
	w := newWorld(t)
	config := &tls.Config{RootCAs: w.roots, ServerName: testHost, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for _, resumed := range []bool{false, true} {
		conn, err := tls.Dial("tcp", w.general, config)
		require.NoError(t, err)
		require.Equal(t, resumed, conn.ConnectionState().DidResume)
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		require.NoError(t, err)
		_, err = io.ReadAll(conn) // the ticket comes with the answer
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}

func TestShutdownLetsRequestsEndAndCutsWebSockets(t *testing.T) {
	w := newWorld(t)
	arrived, finish := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/socket", echoSocket(nil))
	mux.HandleFunc("/slow", func(rw http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-finish
		_, _ = io.WriteString(rw, "whole")
	})
	w.vm.listen(t, DefaultPort, mux)
	w.expose(t, "127.99.1.6")
	socket, _, err := w.dialSocket(t, http.Header{authHeader: {w.token}})
	require.NoError(t, err)
	require.NoError(t, socket.Write(t.Context(), websocket.MessageText, []byte("x")))

	slow := make(chan string, 1)
	go func() {
		_, body := get(t, w.client(t), w.request(t, http.MethodGet, "/slow"))
		slow <- body
	}()
	<-arrived
	down := make(chan error, 1)
	go func() { down <- w.Shutdown(context.Background()) }()
	for _, addr := range []string{w.general, w.EndpointHost("", "127.99.1.6")} {
		require.Eventually(t, func() bool {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				conn.Close()
			}
			return err != nil
		}, wait, time.Millisecond, "new connections are refused")
	}
	close(finish)
	require.Equal(t, "whole", <-slow)
	require.NoError(t, <-down)
	for err == nil {
		_, _, err = socket.Read(t.Context())
	}
}

func TestShutdownDoesNotWaitForeverForAStream(t *testing.T) {
	w := newWorld(t)
	w.vm.listen(t, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	res, err := w.client(t).Do(w.request(t, http.MethodGet, "/"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, w.Shutdown(ctx), context.Canceled)
	_, err = io.ReadAll(res.Body)
	require.Error(t, err)
}

func TestServeLooksAfterTheTokenKeys(t *testing.T) {
	w := newWorld(t)
	keys := w.tokens.keys.(*memoryKeys)
	first := keys.keys[0].ID
	require.NoError(t, w.clock.BlockUntilContext(t.Context(), 1)) // the ticker
	w.clock.Advance(keyLife)
	require.Eventually(t, func() bool {
		ring := w.tokens.ring.Load()
		return ring.keys[len(ring.keys)-1].ID != first
	}, wait, time.Millisecond)
}

func TestClientWithoutTLSIsToldSo(t *testing.T) {
	w := newWorld(t)
	conn, err := net.Dial("tcp", w.general)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(answer), "400 Bad Request")
}
