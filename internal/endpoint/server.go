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
	// headerTimeout bounds TLS handshakes, and the time a client takes to send its headers.
	headerTimeout = 10 * time.Second
	// idleTimeout closes client connections without a request.
	idleTimeout = 2 * time.Minute
	// rotateEvery is how often the token keys are looked after; a key signs for a day.
	rotateEvery = time.Hour
)

// Config is what a Server needs. VMs, Tokens and GetCertificate are required.
type Config struct {
	Listen         string // host:port of the general listener
	Domain         string // the general listener serves <uuid>.Domain
	VMs            VMs
	Tokens         *Tokens
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error) // localca.Authority's, or CertificateFromFiles
	ParkTimeout    time.Duration                                        // how long a request waits for its VM
	Clock          clockwork.Clock
	Logger         *slog.Logger
	Observe        func(Observed) // told of each request after its end; nil: nobody is
}

// Server is the HTTPS door of every VM: one general listener that goes by host name, and one
// listener for each VM with an address of its own. All share a port.
type Server struct {
	cfg     Config
	tls     *tls.Config
	http    *http.Server
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
	general, err := listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for endpoints: %w", err)
	}
	base, cancel := context.WithCancel(context.Background())
	return &Server{
		cfg:     cfg,
		general: general,
		tls: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			NextProtos:     []string{"h2", "http/1.1"},
			GetCertificate: cfg.GetCertificate,
			// Small first records help slow links; on one machine they are 24 writes where 2 would do.
			DynamicRecordSizingDisabled: true,
		},
		http: &http.Server{
			Handler:           newHandler(cfg),
			MaxHeaderBytes:    maxHeader,
			ReadHeaderTimeout: headerTimeout,
			IdleTimeout:       idleTimeout,
			BaseContext:       func(net.Listener) context.Context { return base },
			ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		},
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

// Expose opens a VM's own address, on the port of the general listener. Repeating it is harmless.
func (s *Server) Expose(addr netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.exposed[addr]; ok || s.coversAll() {
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

// EndpointHost is what the API prints as a VM's endpoint: its own address if it has one, else its
// name in the domain; with the port unless that is 443.
func (s *Server) EndpointHost(endpointID, endpointAddr string) string {
	host := endpointAddr
	if host == "" {
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
	err := s.http.Serve(tls.NewListener(listener, s.tls))
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

// coversAll tells whether the general listener hears every address already.
func (s *Server) coversAll() bool {
	return addrOf(s.general.Addr()).IsUnspecified()
}
