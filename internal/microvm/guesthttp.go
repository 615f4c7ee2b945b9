package microvm

import (
	"io"
	"log"
	"net"
	"net/http"
	"sync"

	"github.com/dormouse-dev/dormouse/internal/netstack"
)

// serveHTTP serves single connections of a guest as an HTTP server would, so many at once; more are closed.
func serveHTTP(connections int, server func() *http.Server) netstack.Handler {
	slots := make(chan struct{}, connections)
	return func(conn net.Conn) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			conn.Close()
			return
		}
		listener := &oneConn{conn: conn, closed: make(chan struct{})}
		one := server()
		one.ErrorLog = log.New(io.Discard, "", 0) // what a guest does wrong is no news
		one.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				listener.Close()
			}
		}
		_ = one.Serve(listener) // returns when the connection is closed
	}
}

// oneConn is a listener that accepts one connection and then waits for its end.
type oneConn struct {
	mu     sync.Mutex // guards conn
	conn   net.Conn   // nil once accepted
	once   sync.Once
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return oneConnAddr{} }

// oneConnAddr is an address nobody looks at.
type oneConnAddr struct{}

func (oneConnAddr) Network() string { return "guest" }
func (oneConnAddr) String() string  { return "guest" }
