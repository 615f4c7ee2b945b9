package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

const (
	// DefaultListen is where the general listener is unless Config.Listen says otherwise.
	DefaultListen = "127.0.0.1:7443"
	// DefaultDomain makes hosts of the form <uuid>.localhost, which clients resolve to loopback.
	DefaultDomain = "localhost"
	// DefaultParkTimeout is longer than the longest legal wake: a 60 s hook (spec/behaviour.md 5)
	// after a restore.
	DefaultParkTimeout = 90 * time.Second

	// maxHeader bounds the headers of a request in bytes: a token (8000), cookies and more.
	maxHeader = 64 << 10
	// defaultHeaderTimeout is well above what a handshake takes over the worst of links.
	defaultHeaderTimeout = 10 * time.Second
	// maxStreams bounds the requests of one HTTP/2 connection at once. net/http closes one on which more
	// are opened and reset than it can have served.
	maxStreams = 250
	// idleTimeout closes client connections without a request.
	idleTimeout = 2 * time.Minute
	// rotateEvery is how often the token keys are looked after; a key signs for a day.
	rotateEvery = time.Hour
)

// Config is what a Server needs. VMs, Tokens and GetCertificate are required.
type Config struct {
	Listen         string // host:port of the general listener
	Mode           Mode   // how VMs are told apart; "" = ModeAuto
	Domain         string // the general listener serves <uuid>.Domain
	VMs            VMs
	Tokens         *Tokens
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error) // of a localca.Authority, certfile.Pair or acme.Issuer
	Protocols      []string                                             // ALPN beyond HTTP's, which GetCertificate has a use for
	ParkTimeout    time.Duration                                        // how long a request waits for its VM
	Limits         Limits                                               // of each VM's traffic; none by default
	MaxConnections int                                                  // of clients, at once; DefaultMaxConnections
	HeaderTimeout  time.Duration                                        // for TLS handshakes, and for the headers of a request; 10 s
	Clock          clockwork.Clock
	Logger         *slog.Logger
	Observe        func(Observed) // told of each request after its end; nil: nobody is
}

// Server is the HTTPS door of every VM: one general listener that goes by host name, and in ModeIP
// one listener for each VM. All share a port.
type Server struct {
	cfg     Config
	tls     *tls.Config
	http    *http.Server
	lobby   *lobby
	handler *handler
	general net.Listener
	streams context.CancelFunc // ends upgraded connections, which http.Server forgets

	mu      sync.Mutex // guards exposed
	exposed map[netip.Addr]net.Listener
}

// listen waits for nothing, so there is nothing for a context to cut short.
func listen(address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), "tcp", address)
}

// New opens the general listener. Clients that connect wait until Serve is called.
func New(cfg Config) (*Server, error) {
	cfg = withDefaults(cfg)
	mode, err := cfg.Mode.Resolve(cfg.Listen)
	if err != nil {
		return nil, err
	}
	cfg.Mode = mode
	general, err := listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for endpoints: %w", err)
	}
	base, cancel := context.WithCancel(context.Background())
	handler, lobby := newHandler(cfg), newLobby(cfg.MaxConnections)
	if handler.limiter != nil {
		lobby.left = handler.limiter.leave
	}
	return &Server{
		cfg:     cfg,
		handler: handler,
		general: general,
		tls: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			NextProtos:     append([]string{"h2", "http/1.1"}, cfg.Protocols...),
			GetCertificate: cfg.GetCertificate,
			// Small first records help slow links; on one machine they are 24 writes where 2 would do.
			DynamicRecordSizingDisabled: true,
		},
		http: &http.Server{
			Handler:           handler,
			MaxHeaderBytes:    maxHeader,
			ReadHeaderTimeout: cfg.HeaderTimeout,
			IdleTimeout:       idleTimeout,
			HTTP2:             clientHTTP2(),
			BaseContext:       func(net.Listener) context.Context { return base },
			ConnContext:       inLobby,
			ConnState:         stateChanged,
			ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		},
		lobby:   lobby,
		streams: cancel,
		exposed: make(map[netip.Addr]net.Listener),
	}, nil
}

func withDefaults(cfg Config) Config {
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if cfg.Domain == "" {
		cfg.Domain = DefaultDomain
	}
	if cfg.ParkTimeout == 0 {
		cfg.ParkTimeout = DefaultParkTimeout
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = DefaultMaxConnections()
	}
	if cfg.HeaderTimeout == 0 {
		cfg.HeaderTimeout = defaultHeaderTimeout
	}
	if cfg.Clock == nil {
		cfg.Clock = clockwork.NewRealClock()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Serve answers on the general listener until Shutdown is called (it then returns nil at once, while
// Shutdown still waits for requests) or until ctx ends, which cuts all connections.
func (s *Server) Serve(ctx context.Context) error {
	var rotation sync.WaitGroup
	defer rotation.Wait()
	rotating, stopRotation := context.WithCancel(ctx)
	defer stopRotation()
	rotation.Go(func() { s.rotateKeys(rotating) })

	stopWaiting := context.AfterFunc(ctx, s.close)
	defer stopWaiting()
	return s.serve(s.general)
}

// Expose opens a VM's own address, on the port of the general listener. Repeating it is harmless, and
// in ModeDomain an address, which the VM has of an earlier Server, is not opened.
func (s *Server) Expose(addr netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.exposed[addr]; ok || s.cfg.Mode == ModeDomain {
		return nil
	}
	listener, err := listen(netip.AddrPortFrom(addr, s.port()).String())
	if err != nil {
		return fmt.Errorf("listen for endpoint %s: %w", addr, err)
	}
	s.exposed[addr] = listener
	go func() {
		if err := s.serve(listener); err != nil {
			s.cfg.Logger.Error("endpoint address no longer served", "addr", addr, "error", err)
		}
	}()
	return nil
}

// Addr is where the general listener is.
func (s *Server) Addr() net.Addr { return s.general.Addr() }

// Withdraw closes a VM's own address for new connections. The address need not be exposed.
func (s *Server) Withdraw(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if listener, ok := s.exposed[addr]; ok {
		_ = listener.Close() // a listener has nothing to lose
		delete(s.exposed, addr)
	}
}

// EndpointHost is what the API prints as a VM's endpoint: in ModeIP its own address, else its name in
// the domain; with the port unless that is 443. A VM from before the mode was ip has no address and
// keeps its name, which the general listener serves in both modes.
func (s *Server) EndpointHost(endpointID, endpointAddr string) string {
	host := endpointAddr
	if host == "" || s.cfg.Mode == ModeDomain {
		host = endpointID + "." + s.cfg.Domain
	}
	if port := s.port(); port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	return host
}

// Shutdown stops accepting, lets running requests end until ctx does, and then cuts what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	s.close()
	s.handler.waitForShells(ctx)
	if err != nil {
		return fmt.Errorf("wait for endpoint requests: %w", err)
	}
	return nil
}

func (s *Server) close() {
	s.streams()
	_ = s.http.Close() // reports listeners that were closed before
}

// serve answers on one listener until it is closed.
func (s *Server) serve(listener net.Listener) error {
	err := s.http.Serve(tls.NewListener(guard{listener, s.lobby}, s.tls))
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve endpoints: %w", err)
}

// rotateKeys looks after the token keys until ctx ends. A failure leaves the present keys in use,
// and the next round tries again.
func (s *Server) rotateKeys(ctx context.Context) {
	ticker := s.cfg.Clock.NewTicker(rotateEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.Chan():
			if err := s.cfg.Tokens.Rotate(ctx); err != nil {
				s.cfg.Logger.Error("token keys not rotated", "error", err)
			}
		}
	}
}

// port is the one all listeners share.
func (s *Server) port() uint16 {
	return s.general.Addr().(*net.TCPAddr).AddrPort().Port()
}
