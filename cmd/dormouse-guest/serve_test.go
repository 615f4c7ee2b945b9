package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// startServer runs a server on loopback, where the tests are the host, and returns a client of it.
func startServer(t *testing.T, change func(*server)) (*guest.Client, *server, guest.Dialer) {
	t.Helper()
	secret := [guest.SecretSize]byte{1, 2, 3}
	s, err := newServer(secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	loopback := [4]byte{127, 0, 0, 1}
	s.gateway = loopback
	s.fixMachine = func(*guest.RestoreRequest) error { return nil }
	s.setClock = func(int64) error { return nil }
	if change != nil {
		change(s)
	}
	if err := s.listen(loopback, 0); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(s.listener)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.AddrFrom4(loopback), uint16(address.(*unix.SockaddrInet4).Port))
	go s.loop.run()
	dial := func(ctx context.Context, _ uint16) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", to.String())
	}
	return guest.New(dial, secret), s, dial
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// listen opens a port of "the app" and serves each connection with handle.
func listenApp(t *testing.T, address string, handle func(net.Conn)) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

func echo(conn net.Conn) { io.Copy(conn, conn) }

func TestForwardCarriesBothDirectionsAndTheirEnds(t *testing.T) {
	client, s, _ := startServer(t, nil)
	port := listenApp(t, "127.0.0.1:0", echo)
	conn, err := client.Forward(deadline(t), port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := make([]byte, 8<<20) // far more than all buffers on the way: both directions must wait and go on
	rand.Read(sent)
	go func() {
		conn.Write(sent)
		conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Fatalf("got %d bytes back that differ from the %d sent", len(got), len(sent))
	}
	waitFor(t, func() bool { return s.connections.Load() == 0 })
}

// waitFor polls a condition that another goroutine is about to make true.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for ctx := deadline(t); !condition(); {
		select {
		case <-ctx.Done():
			t.Fatal("it did not happen")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestForwardReachesAnAppThatListensOnIPv6Only(t *testing.T) {
	client, _, _ := startServer(t, nil)
	port := listenApp(t, "[::1]:0", echo)
	conn, err := client.Forward(deadline(t), port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("x"))
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil || b[0] != 'x' {
		t.Fatalf("read %q, %v", b, err)
	}
}

func TestForwardToAClosedPortIsRefusedEvenAfterAWrite(t *testing.T) {
	client, _, _ := startServer(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(listener.Addr().(*net.TCPAddr).Port)
	listener.Close()
	conn, err := client.Forward(deadline(t), port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, guest.ErrRefused) {
		t.Fatalf("read: %v, want ErrRefused", err)
	}
}

func TestForwardEndsWhenTheAppBreaksTheConnection(t *testing.T) {
	client, s, _ := startServer(t, nil)
	port := listenApp(t, "127.0.0.1:0", func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, 1))
		conn.(*net.TCPConn).SetLinger(0) // close with a reset
	})
	conn, err := client.Forward(deadline(t), port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("x"))
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return s.connections.Load() == 0 })
}

func TestAWrongSecretGetsNoAnswer(t *testing.T) {
	_, _, dial := startServer(t, nil)
	stranger := guest.New(dial, [guest.SecretSize]byte{9})
	if _, err := stranger.Restore(deadline(t), guest.RestoreRequest{}); err == nil {
		t.Fatal("a restore with a wrong secret was answered")
	}
}

func TestAPeerThatIsNotTheGatewayGetsNoAnswer(t *testing.T) {
	client, _, _ := startServer(t, func(s *server) { s.gateway = [4]byte{10, 0, 2, 2} })
	if _, err := client.Restore(deadline(t), guest.RestoreRequest{}); err == nil {
		t.Fatal("a stranger was answered")
	}
}

func TestGarbageInsteadOfAPreambleIsHungUpOn(t *testing.T) {
	_, s, dial := startServer(t, nil)
	conn, err := dial(deadline(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(bytes.Repeat([]byte("x"), 100))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	waitFor(t, func() bool { return s.connections.Load() == 0 })
}

func TestAPreambleMayComeInPieces(t *testing.T) {
	_, s, dial := startServer(t, nil)
	port := listenApp(t, "127.0.0.1:0", echo)
	conn, err := dial(deadline(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	secret := s.present()
	preamble := guest.Preamble{Op: guest.OpForward, Port: port, Secret: secret}
	for _, b := range append(preamble.Append(nil), "hello"...) {
		conn.Write([]byte{b})
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "\x00hello" {
		t.Fatalf("read %q, %v", got, err)
	}
}

func TestRestoreSetsTheClockRotatesTheSecretAndCallsTheHook(t *testing.T) {
	fixes, clocks := make(chan guest.RestoreRequest, 2), make(chan int64, 2)
	client, s, _ := startServer(t, func(s *server) {
		s.fixMachine = func(r *guest.RestoreRequest) error { fixes <- *r; return nil }
		s.setClock = func(nanos int64) error { clocks <- nanos; return nil }
	})
	requests := make(chan *http.Request, 1)
	app := hookServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		requests <- r
	})
	request := guest.RestoreRequest{
		Secret: [guest.SecretSize]byte{7}, MachineID: [16]byte{8}, Hostname: "vm",
		Hook: guest.HookRequest{Name: "run", Port: int(app), Timeout: 10 * time.Second, Body: []byte(`{"a":1}`)},
	}
	before := time.Now().UnixNano()
	reply, err := client.Restore(deadline(t), request)
	if err != nil {
		t.Fatal(err)
	}
	if reply.Hook.Status != 200 || reply.HookRan <= 0 {
		t.Errorf("reply %+v", reply)
	}
	if clock := <-clocks; clock < before || clock > time.Now().UnixNano() {
		t.Errorf("the clock was set to %d, not between %d and now", clock, before)
	}
	if fixed := <-fixes; fixed.Hostname != "vm" || fixed.MachineID != request.MachineID {
		t.Errorf("fixed up with %+v", fixed)
	}
	if s.present() != request.Secret {
		t.Error("the agent kept its old secret")
	}
	if _, err := client.Restore(deadline(t), guest.RestoreRequest{Secret: request.Secret}); err != nil {
		t.Errorf("the client did not take the new secret over: %v", err)
	}
	checkHookRequest(t, <-requests, app)
}

// checkHookRequest compares what the app saw with spec/behaviour.md section 5.
func checkHookRequest(t *testing.T, r *http.Request, port uint16) {
	t.Helper()
	body, _ := io.ReadAll(r.Body)
	if r.Method != "POST" || r.URL.Path != "/aws/lambda-microvms/runtime/v1/run" || r.Proto != "HTTP/1.1" ||
		!strings.HasPrefix(r.Host, "localhost:") || string(body) != `{"a":1}` ||
		r.Header.Get("Content-Type") != "application/json" || r.UserAgent() != "" || !strings.HasPrefix(r.RemoteAddr, "127.0.0.1:") {
		t.Errorf("the app saw %s %s %s host %s header %v body %q", r.Method, r.URL, r.Proto, r.Host, r.Header, body)
	}
}

func TestRestoreTellsWhatWentWrongAndCallsNoHook(t *testing.T) {
	client, _, _ := startServer(t, func(s *server) {
		s.fixMachine = func(*guest.RestoreRequest) error { return errors.New("no entropy") }
	})
	app := hookServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the hook was called") })
	_, err := client.Restore(deadline(t), guest.RestoreRequest{Hook: guest.HookRequest{Name: "run", Port: int(app), Timeout: time.Second}})
	var agent guest.AgentError
	if !errors.As(err, &agent) || string(agent) != "no entropy" {
		t.Fatalf("restore: %v", err)
	}
}

func TestRestoreHookTimesOutWhileOthersAreServed(t *testing.T) {
	client, _, _ := startServer(t, nil)
	silent := listenApp(t, "127.0.0.1:0", func(conn net.Conn) { io.Copy(io.Discard, conn) })
	hook := guest.HookRequest{Name: "resume", Port: int(silent), Timeout: 50 * time.Millisecond}
	reply, err := client.Restore(deadline(t), guest.RestoreRequest{Hook: hook})
	if err != nil || !reply.Hook.TimedOut || reply.Hook.Status != 0 {
		t.Fatalf("restore: %+v, %v", reply, err)
	}
}

func (s *server) present() [guest.SecretSize]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secret
}
