package main

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// maxConnections bounds what the host has open at one time.
const maxConnections = 1024

// server serves the host. It takes connections from the gateway only; the secret keeps out an app
// that forges that address.
type server struct {
	app         *app
	identity    *identity
	loop        *loop
	random      randomPool
	listener    int
	gateway     [4]byte
	connections atomic.Int32
	execs       atomic.Int32 // processes the host has started beside the app

	// What a restore does to the machine; tests replace it, theirs is not to be restored.
	fixMachine func(*guest.RestoreRequest) error
	setClock   func(unixNanos int64) error
	// exec starts a process beside the app; tests have no container.
	exec func(*guest.ExecRequest) (*process, error)

	mu     sync.Mutex
	secret [guest.SecretSize]byte // guarded by mu
}

func newServer(secret [guest.SecretSize]byte, id *identity) (*server, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	random, err := openRandomPool()
	if err != nil {
		return nil, fmt.Errorf("open the random pool: %w", err)
	}
	s := &server{
		app:      &app{journal: newJournal()},
		identity: id,
		loop:     l,
		random:   random,
		gateway:  netip.MustParseAddr(guest.GatewayIP).As4(),
		setClock: setClock,
		secret:   secret,
	}
	s.fixMachine = s.fixUp
	s.exec = s.app.exec
	return s, nil
}

// serve only returns when it failed.
func (s *server) serve() error {
	if err := s.listen(netip.MustParseAddr(guest.GuestIP).As4(), guest.AgentPort); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintln(os.Stderr, "dormouse-guest: ready")
	return s.loop.run()
}

// listen opens the agent's port. Accepted connections inherit the socket options on Linux, so none is
// set on the hot path.
func (s *server) listen(ip [4]byte, port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for _, option := range [][3]int{
		{unix.SOL_TCP, unix.TCP_NODELAY, 1},
		// The first bytes come right behind the connection: wake up once, for both.
		{unix.SOL_TCP, unix.TCP_DEFER_ACCEPT, 10},
		// A restore has to know how old the time is that the host tells it.
		{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1},
		// Connections whose host side is gone end after two minutes: a daemon that was killed, or
		// one from before a snapshot.
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.SOL_TCP, unix.TCP_KEEPIDLE, 60},
		{unix.SOL_TCP, unix.TCP_KEEPINTVL, 20},
		{unix.SOL_TCP, unix.TCP_KEEPCNT, 3},
	} {
		if err := unix.SetsockoptInt(fd, option[0], option[1], option[2]); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: ip, Port: port}); err != nil {
		return err
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return err
	}
	s.listener = fd
	return s.loop.watch(fd, s)
}

// ready accepts what there is.
func (s *server) ready() {
	for {
		fd, from, errno := rawAccept(s.listener)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno == unix.EINTR || errno == unix.ECONNABORTED:
			continue
		case errno != 0:
			// Out of descriptors or memory: the next connection tries again.
			fmt.Fprintln(os.Stderr, "dormouse-guest: accept:", errno)
			return
		case from != s.gateway || s.connections.Load() >= maxConnections:
			rawClose(fd)
			continue
		}
		s.connections.Add(1)
		greet(s, fd)
	}
}

func (s *server) expired() {}

// serveSlow serves what is not hot, outside the loop.
func (s *server) serveSlow(op guest.Op, conn *os.File, begun []byte) {
	defer s.connections.Add(-1)
	defer conn.Close()
	stream := struct {
		io.Reader
		io.Writer
	}{io.MultiReader(bytes.NewReader(begun), conn), conn}
	switch op {
	case guest.OpCall:
		s.serveCalls(stream)
	case guest.OpEvents:
		serveEvents(stream, s.app.journal)
	case guest.OpExec:
		s.serveExec(stream)
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
