package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

const (
	// preambleLimit is how long a connection may take to say what it is for.
	preambleLimit = 10 * time.Second
	// maxConnections bounds what the host has open at one time.
	maxConnections = 1024
)

// server serves the host. It takes connections from the gateway only; the secret keeps out an app
// that forges that address.
type server struct {
	app      *app
	identity *identity
	gateway  netip.Addr
	slots    chan struct{}

	mu     sync.Mutex
	secret [guest.SecretSize]byte // guarded by mu
}

func newServer(secret [guest.SecretSize]byte, id *identity) *server {
	return &server{
		app:      &app{journal: newJournal()},
		identity: id,
		gateway:  netip.MustParseAddr(guest.GatewayIP),
		slots:    make(chan struct{}, maxConnections),
		secret:   secret,
	}
}

// serve only returns when listening failed.
func (s *server) serve() error {
	// Accepted connections inherit the options of the listener on Linux, so none is set on the hot path.
	config := net.ListenConfig{KeepAlive: -1, Control: tuneListener}
	address := netip.AddrPortFrom(netip.MustParseAddr(guest.GuestIP), guest.AgentPort)
	listener, err := config.Listen(context.Background(), "tcp4", address.String())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintln(os.Stderr, "dormouse-guest: ready")
	for {
		conn, err := listener.(*net.TCPListener).AcceptTCP()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		if !s.mayServe(conn) {
			conn.Close()
			continue
		}
		go s.handle(conn)
	}
}

// tuneListener makes connections whose host side is gone end after two minutes: a daemon that was
// killed, or one from before a snapshot.
func tuneListener(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		for _, option := range [][3]int{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.SOL_TCP, unix.TCP_KEEPIDLE, 60},
			{unix.SOL_TCP, unix.TCP_KEEPINTVL, 20},
			{unix.SOL_TCP, unix.TCP_KEEPCNT, 3},
		} {
			if err := unix.SetsockoptInt(int(fd), option[0], option[1], option[2]); err != nil {
				failed = err
			}
		}
	})
	if err != nil {
		return err
	}
	return failed
}

// mayServe takes a slot for a connection from the gateway.
func (s *server) mayServe(conn *net.TCPConn) bool {
	if conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() != s.gateway {
		return false
	}
	select {
	case s.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// handle serves one connection. Every wrong preamble ends without an answer.
func (s *server) handle(conn *net.TCPConn) {
	defer func() { <-s.slots }()
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(preambleLimit))
	var raw [guest.PreambleSize]byte
	if _, err := io.ReadFull(conn, raw[:]); err != nil {
		return
	}
	preamble, err := guest.ParsePreamble(raw[:])
	if err != nil || !s.knows(&preamble) {
		return
	}
	if preamble.Op != guest.OpRestore {
		conn.SetReadDeadline(time.Time{})
	}
	switch preamble.Op {
	case guest.OpForward:
		forward(conn, preamble.Port)
	case guest.OpCall:
		s.serveCalls(conn)
	case guest.OpRestore:
		s.serveRestore(conn)
	case guest.OpEvents:
		serveEvents(conn, s.app.journal)
	}
}

func (s *server) knows(p *guest.Preamble) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.Knows(&s.secret)
}

func (s *server) rotate(secret [guest.SecretSize]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret = secret
}
