package endpoint

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

// tlsApp is an app that wants TLS, on one guest port. What it does with a connection that begins otherwise is
// what servers differ in.
type tlsApp struct {
	other func(conn net.Conn, head []byte)

	mu    sync.Mutex // guards what follows
	begun []byte     // the first byte of each connection
	names []string   // TLS server names
}

const tlsHandshakeRecord = 22 // RFC 8446 5.1

func (a *tlsApp) began(first byte) { a.mu.Lock(); a.begun = append(a.begun, first); a.mu.Unlock() }

func (a *tlsApp) plaintextConns() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.begun) - bytes.Count(a.begun, []byte{tlsHandshakeRecord})
}

// startTLSApp serves handler over TLS on a guest port, with a certificate that nobody trusts.
func startTLSApp(t *testing.T, vm *fakeVM, port uint16, other func(net.Conn, []byte), handler http.Handler) *tlsApp {
	app := &tlsApp{other: other}
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS() // for its certificate and configuration; its listener is not used by clients
	t.Cleanup(server.Close)
	config := server.TLS.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		app.mu.Lock()
		defer app.mu.Unlock()
		app.names = append(app.names, hello.ServerName)
		return nil, nil
	}
	accepted := &connQueue{conns: make(chan net.Conn), closed: make(chan struct{}), addr: server.Listener.Addr()}
	t.Cleanup(func() { accepted.Close() })
	go func() { _ = server.Config.Serve(accepted) }()
	acceptEach(t, vm, port, func(conn net.Conn) {
		head := make([]byte, 5)
		if _, err := io.ReadFull(conn, head); err != nil {
			conn.Close()
			return
		}
		app.began(head[0])
		if head[0] != tlsHandshakeRecord {
			app.other(conn, head)
			conn.Close()
			return
		}
		secured := tls.Server(&rewound{conn, io.MultiReader(bytes.NewReader(head), conn)}, config)
		if secured.Handshake() != nil {
			conn.Close()
			return
		}
		select {
		case accepted.conns <- secured:
		case <-accepted.closed:
		}
	})
	return app
}

// acceptEach serves every connection to a guest port in a goroutine of its own.
func acceptEach(t *testing.T, vm *fakeVM, port uint16, serve func(net.Conn)) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	vm.forward(port, listener.Addr().String())
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
}

// connQueue is a listener whose connections somebody else has accepted.
type connQueue struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

func (q *connQueue) Addr() net.Addr { return q.addr }
func (q *connQueue) Close() error   { q.once.Do(func() { close(q.closed) }); return nil }

func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

// rewound is a connection whose first bytes were read and put back.
type rewound struct {
	net.Conn
	from io.Reader
}

func (c *rewound) Read(p []byte) (int, error) { return c.from.Read(p) }

// What servers do with plaintext on a TLS port, as seen with their real versions.
var tlsServers = map[string]func(conn net.Conn, head []byte){
	"Go": func(conn net.Conn, head []byte) {
		if slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO"}, string(head)) {
			_, _ = io.WriteString(conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		}
	},
	"OpenSSL: Python, Node": func(conn net.Conn, _ []byte) {
		_ = conn.(*net.TCPConn).SetLinger(0) // the rest of the request is unread: the kernel resets
	},
	"OpenSSL, nothing unread": func(conn net.Conn, _ []byte) {
		_ = conn.(*net.TCPConn).CloseWrite()
	},
	"alert": func(conn net.Conn, _ []byte) {
		_, _ = conn.Write([]byte{21, 3, 1, 0, 2, 2, 10})
	},
	"alert, and left open": func(conn net.Conn, _ []byte) {
		_, _ = conn.Write([]byte{21, 3, 3, 0, 2, 2, 70})
		_, _ = io.Copy(io.Discard, conn)
	},
	"nginx": func(conn net.Conn, head []byte) {
		reader := bufio.NewReader(io.MultiReader(bytes.NewReader(head), conn))
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		const page = "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>\r\n"
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(page), page)
		_, _ = io.Copy(io.Discard, r.Body)
	},
}

func overTLSServers(t *testing.T, handler http.Handler, test func(t *testing.T, w *world, app *tlsApp)) {
	for name, other := range tlsServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWorld(t, clockwork.NewRealClock())
			test(t, w, startTLSApp(t, w.vm, DefaultPort, other, handler))
		})
	}
}
