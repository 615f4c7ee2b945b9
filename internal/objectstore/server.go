package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/rclone/gofakes3"
	"golang.org/x/net/netutil"

	"github.com/dormouse-dev/dormouse/internal/sigv4"
)

const (
	// DefaultObjectLimit is the largest object of S3's PutObject, in bytes.
	DefaultObjectLimit = 5 << 30

	maxConnections = 256
	maxHeaderBytes = 32 << 10
	stallTimeout   = time.Minute // without a byte in or out
	drainTimeout   = 5 * time.Second
)

// ServerConfig is what an embedded S3 server needs.
type ServerConfig struct {
	Dir         string // its own folder, made when missing
	Credentials sigv4.Credentials
	ObjectLimit int64           // bytes of one object; 0 is DefaultObjectLimit
	Clock       clockwork.Clock // for modification times; nil is the real one
	Log         *slog.Logger    // nil is slog.Default()
}

// Server is the embedded S3 server and the store behind it. Buckets belong to the account that
// made them; nobody else reads, lists or writes them.
type Server struct {
	credentials sigv4.Credentials
	limit       int64
	backend     *backend
	s3          http.Handler
	log         *slog.Logger
}

// NewServer opens the store in cfg.Dir and removes what a crash left half done there.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.ObjectLimit == 0 {
		cfg.ObjectLimit = DefaultObjectLimit
	}
	if cfg.Clock == nil {
		cfg.Clock = clockwork.NewRealClock()
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Server{credentials: cfg.Credentials, limit: cfg.ObjectLimit, log: cfg.Log}
	if err := s.open(context.Background(), cfg); err != nil {
		return nil, fmt.Errorf("open object store %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func (s *Server) open(ctx context.Context, cfg ServerConfig) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	blobs, err := openBlobs(cfg.Dir)
	if err != nil {
		return err
	}
	index, err := openIndex(ctx, cfg.Dir)
	if err != nil {
		return err
	}
	err = blobs.sweep(func(name string) (bool, error) { return index.hasBlob(ctx, name) })
	if err != nil {
		return errors.Join(fmt.Errorf("sweep: %w", err), index.db.Close())
	}
	s.backend = &backend{blobs: blobs, index: index, uploads: newUploads(cfg.Dir), limit: cfg.ObjectLimit, clock: cfg.Clock, log: cfg.Log}
	fake := gofakes3.New(s.backend,
		gofakes3.WithLogger(wireLog{cfg.Log}),
		gofakes3.WithTimeSource(timeSource{cfg.Clock}),
		gofakes3.WithTimeSkewLimit(0), // authenticate has checked it
		gofakes3.WithUploadOwner(func(ctx context.Context) string { return callerOf(ctx).account }))
	s.s3 = fake.Server()
	s.backend.uploads.forget = func(ctx context.Context, u *upload) {
		ctx = withCaller(ctx, &caller{account: u.account})
		_ = fake.ForgetMultipartUpload(ctx, u.bucket, u.key, u.id) // fails only if it is not there
	}
	return nil
}

// object opens an object as an account does that reads it over HTTP.
func (s *Server) object(ctx context.Context, account, bucket, key string) (io.ReadCloser, int64, error) {
	o, f, err := s.backend.open(withCaller(ctx, &caller{account: account}), bucket, key)
	if err != nil {
		return nil, 0, err
	}
	return f, o.size, nil
}

// Close closes the store. Serve must have returned.
func (s *Server) Close() error { return s.backend.index.db.Close() }

// Serve answers S3 requests on l until ctx ends, then lets those under way finish for a moment.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       stallTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		err := server.Shutdown(drain)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		stopped <- err
	}()
	err := server.Serve(netutil.LimitListener(l, maxConnections))
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve S3: %w", err)
	}
	return <-stopped
}

// Handler answers S3 requests, path style or with the bucket in the host name (BUCKET.localhost).
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // that of the request before
	c, err := s.admit(w, r)
	if err != nil {
		if !isRefusal(err) {
			s.log.Error("S3 request failed", "method", r.Method, "error", err)
		}
		writeError(w, r, err)
		return
	}
	r.Body = c.body
	bucketFromHost(r)
	s.s3.ServeHTTP(&stallWriter{w}, r.WithContext(withCaller(r.Context(), c)))
	if c.body.stored { // too late, and ignored, if it failed after all
		w.Header().Set(c.body.sum.header(), c.body.sum.value())
	}
}

// admit says who the request is from and opens its body.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) (*caller, error) {
	signer, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	if err := supported(r); err != nil {
		return nil, err
	}
	whole, err := wholeObjectChecksum(r)
	if err != nil {
		return nil, err
	}
	raw := &stallReader{r: r.Body, conn: http.NewResponseController(w)}
	body, err := openBody(r, signer, raw, s.limit)
	if err != nil {
		return nil, err
	}
	return &caller{account: signer.account, body: body, wholeObject: whole}, nil
}

// supported refuses what gofakes3 would do but not safely: browser form uploads, which it spools
// to the system's temporary folder.
func supported(r *http.Request) error {
	query := r.URL.Query()
	if r.Method == http.MethodPost && !query.Has("delete") && !query.Has("uploads") && !query.Has("uploadId") {
		return newError(gofakes3.ErrNotImplemented, gofakes3.ErrNotImplemented, "Form uploads are not supported.")
	}
	return nil
}

func isRefusal(err error) bool {
	var own *s3Error
	var api *apiError
	return errors.As(err, &own) || errors.As(err, &api)
}

// bucketFromHost turns a virtual-hosted request into a path-style one. Most resolvers know that all
// names below localhost are the loopback address (RFC 6761), so BUCKET.localhost needs no DNS.
func bucketFromHost(r *http.Request) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	bucket, ok := strings.CutSuffix(host, ".localhost")
	bucket = strings.TrimSuffix(bucket, ".s3")
	if ok && bucket != "s3" {
		r.URL.Path = "/" + bucket + r.URL.Path
	}
}

// stallReader gives up on a client that sends nothing for stallTimeout.
type stallReader struct {
	r    io.Reader
	conn *http.ResponseController
}

func (s *stallReader) Read(p []byte) (int, error) {
	_ = s.conn.SetReadDeadline(time.Now().Add(stallTimeout)) // the kernel's clock; tests' recorders have none
	n, err := s.r.Read(p)
	if err != nil { // the server watches the connection from now on, without a deadline
		_ = s.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// stallWriter gives up on a client that takes nothing for stallTimeout.
type stallWriter struct{ http.ResponseWriter }

func (s *stallWriter) Write(p []byte) (int, error) {
	_ = http.NewResponseController(s.ResponseWriter).SetWriteDeadline(time.Now().Add(stallTimeout))
	return s.ResponseWriter.Write(p)
}

// wireLog passes on what gofakes3 has to say, without its line per request.
type wireLog struct{ log *slog.Logger }

func (l wireLog) Print(level gofakes3.LogLevel, v ...any) {
	switch level {
	case gofakes3.LogErr:
		l.log.Error("S3 request failed", "detail", fmt.Sprint(v...))
	case gofakes3.LogWarn:
		l.log.Warn("S3 request", "detail", fmt.Sprint(v...))
	}
}

type timeSource struct{ clock clockwork.Clock }

func (t timeSource) Now() time.Time                     { return t.clock.Now() }
func (t timeSource) Since(then time.Time) time.Duration { return t.clock.Since(then) }
