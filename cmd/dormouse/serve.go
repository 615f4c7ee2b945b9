package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/config"
	"github.com/dormouse-dev/dormouse/internal/control"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/extension"
	"github.com/dormouse-dev/dormouse/internal/image"
	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/objectstore"
	"github.com/dormouse-dev/dormouse/internal/pagetoken"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// suspendLimit bounds how long the daemon takes to suspend everything when it is told to stop.
const suspendLimit = 5 * time.Minute

// serveOptions are the flags of serve.
type serveOptions struct {
	dataDir        string
	assets         string
	listenAPI      string
	listenS3       string
	addresses      addresses
	region         string
	s3             objectstore.ClientConfig
	accelerator    string
	kernel         string
	egressPrivate  []string
	warm           int
	keepTerminated time.Duration
	limits         limits
	traffic        traffic
	observability  observability
	config         string
	idleCounts     []string
	appLogBytes    int64
	offline        bool
	verbose        bool
}

func serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Run the daemon: the API, the embedded S3 and the endpoints of microVMs.

The first start creates account 000000000000, an access key and a local CA in the data folder.
SIGTERM or Ctrl-C suspends what runs and ends the daemon; the next start finds it SUSPENDED. A second Ctrl-C
ends it at once, and what runs then goes on for the next start to take over.`,
		Example: `  dormouse serve
  dormouse serve --data-dir ./data --listen-api 127.0.0.1:8070`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.dataDir, err = dataDir(cmd); err != nil {
				return err
			}
			return serve(cmd.Context(), o)
		},
	}
	o.add(cmd)
	return cmd
}

// add gives a verb the flags of the daemon.
func (o *serveOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.assets, "assets", assets.DefaultDir(), "folder that make setup filled")
	portableDefault(f, "assets", "~/.cache/dormouse")
	f.StringVar(&o.listenAPI, "listen-api", "127.0.0.1:7070", "address of the API")
	o.addresses.addFlags(f)
	f.StringVar(&o.listenS3, "listen-s3", "127.0.0.1:7071", "address of the embedded S3")
	f.StringVar(&o.region, "region", "us-east-1", "region that dormouse env sets; the API serves every region")
	f.StringVar(&o.s3.Endpoint, "s3-endpoint", "", "URL of an external S3 to fetch artifacts from, instead of the embedded one")
	f.StringVar(&o.s3.Region, "s3-region", "", "region of the external S3")
	f.BoolVar(&o.s3.PathStyle, "s3-path-style", true, "put the bucket in the path, for the external S3")
	f.StringVar(&o.accelerator, "accelerator", "auto", "how guests run: auto, kvm or tcg")
	f.StringVar(&o.kernel, "kernel", "", "guest kernel to boot images with, instead of the one set-up unpacked")
	f.StringSliceVar(&o.egressPrivate, "egress-allow", nil, "private ranges (CIDR) that guests with internet egress may reach; none by default")
	f.IntVar(&o.warm, "warm", 1, "VMM processes kept waiting per image in use; 0 keeps none")
	f.DurationVar(&o.keepTerminated, "keep-terminated", 24*time.Hour, "how long TERMINATED microVMs stay listed and keep their logs")
	o.limits.addFlags(f)
	o.traffic.addFlags(f)
	o.observability.addFlags(f)
	f.StringVar(&o.config, "config", "", "configuration file; "+config.DefaultName+" in the data folder, if there is one")
	f.StringSliceVar(&o.idleCounts, "idle-counts", nil, "whose bytes keep a microVM awake besides those through its endpoint: exec, shell, egress (one that is open and silent does not); nothing by default")
	f.Int64Var(&o.appLogBytes, "app-log-bytes", logfile.DefaultAppBytes, "how much of what its app writes is kept per microVM; the newest")
	f.BoolVar(&o.offline, "offline", false, "use the local base images even where a registry is reachable")
	f.BoolVar(&o.verbose, "verbose", false, "log every API call")
}

// collectEarly has the garbage collector run when the heap has grown by half, not when it has doubled: a daemon
// that waits beside hundreds of microVMs should be small, and what it does costs little next to what they do. GOGC
// goes first.
func collectEarly() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// serve wires the program together and runs it until ctx ends.
func serve(ctx context.Context, o serveOptions) (err error) {
	collectEarly()
	log := newLog(daemonOutput(o.dataDir), o.verbose)
	clock := clockwork.NewRealClock()
	rates, quotas, err := o.limits.parse()
	if err != nil {
		return err
	}
	awake, err := microvm.ParseIdleCounts(o.idleCounts)
	if err != nil {
		return usagef("--idle-counts: %v", err)
	}
	file, err := o.configuration()
	if err != nil {
		return err
	}
	identities, err := openIdentities(ctx, file.Roles, clock, log)
	if err != nil {
		return err
	}
	if o.addresses, err = o.addresses.settled(); err != nil {
		return err
	}
	installed, err := install(ctx, o, log)
	if err != nil {
		return err
	}
	unlock, err := openDataDir(o.dataDir)
	if err != nil {
		return err
	}
	defer unlock()
	told := &announcement{dir: o.dataDir}
	defer func() { err = errors.Join(err, told.ended(err)) }()

	records, err := store.Open(ctx, filepath.Join(o.dataDir, databaseFile), quotas)
	if err != nil {
		return err
	}
	defer records.Close()
	key, err := records.EnsureDefaults(ctx, clock.Now())
	if err != nil {
		return err
	}
	if err := writeAccessKey(o.dataDir, key); err != nil {
		return err
	}
	s3, err := openS3(ctx, o, records, log)
	if err != nil {
		return err
	}
	defer s3.close()

	logs := logfile.NewFolder(filepath.Join(o.dataDir, vmLogs), o.appLogBytes)
	if len(file.Roles) > 0 {
		o.observability.credentials = identities.forLogs
	}
	watch, err := o.observability.open(ctx, o.dataDir, records, logs, clock, log)
	if err != nil {
		return err
	}
	manager, err := microvm.New(microvm.Config{
		Dir: o.dataDir, Records: watch.records(records), Driver: installed.driver, Present: installed.present, Boot: installed.boot,
		NextAddr: o.addresses.endpointMode().NextAddr(), Network: installed.network, Logs: logs, Clock: clock, Log: log, Warm: warmth(o.warm), IdleCounts: awake,
		Metadata: identities.metadata, Networks: namedNetworks(file),
	})
	if err != nil {
		return err
	}
	watch.survey(manager.Survey)
	images, builders, err := openImages(o, installed, watch, records, s3.client, manager, identities.credentials, clock, log)
	if err != nil {
		return err
	}
	tokens, err := endpoint.OpenTokens(ctx, tokenKeys{records}, clock)
	if err != nil {
		return err
	}
	vms := endpoint.MicroVMs(manager)
	certified, err := o.addresses.certificates(o.dataDir, endpoint.Names(vms, o.addresses.domain), clock, log)
	if err != nil {
		return err
	}
	front := endpoint.Config{
		Listen: o.addresses.listen, Mode: o.addresses.endpointMode(), Domain: o.addresses.domain, VMs: vms, Tokens: tokens,
		GetCertificate: certified.get, Protocols: certified.protocols, Clock: clock, Logger: log, Observe: watch.requests(),
	}
	if err := o.traffic.configure(&front); err != nil {
		return err
	}
	door, err := endpoint.New(front)
	if err != nil {
		return fmt.Errorf("--listen-endpoint %s: %w", o.addresses.listen, err)
	}
	pageKey, err := records.PageTokenKey(ctx, clock.Now())
	if err != nil {
		return err
	}
	pages, err := pagetoken.New(pageKey)
	if err != nil {
		return err
	}
	operations := control.New(control.Config{
		Store: records, Images: images, MicroVMs: manager, Tokens: tokens, Endpoints: hosts{door}, Clock: clock, Pages: pages,
	})
	servers, ctx := errgroup.WithContext(ctx) // ctx ends also when one of them fails
	auth, limiter := awsapi.NewAuthenticator(credentials{records}, clock), awsapi.NewLimiter(rates, clock)
	beyond := extension.NewHandler(extension.Config{
		Store: records, MicroVMs: manager, Logs: logs, BuildLog: func(id string) string { return image.LogFile(o.dataDir, id) },
		Auth: auth, Limiter: limiter, Pages: pages, Clock: clock, Log: log, Stopping: ctx.Done(),
	})
	aws := awsapi.NewHandler(operations, auth, limiter, log, clock)
	watch.calls(aws)
	return run(ctx, servers, o, told, log, parts{beyond.Beside(aws), s3, door, certified, manager, images, builders, records, logs, watch, clock})
}

// configuration reads the file that was named, or the one in the data folder.
func (o serveOptions) configuration() (config.File, error) {
	if o.config != "" {
		return config.Load(o.config, true)
	}
	return config.Load(filepath.Join(o.dataDir, config.DefaultName), false)
}

// parts is the wired program.
type parts struct {
	api      http.Handler
	s3       *s3Server
	door     *endpoint.Server
	trust    *certificates
	manager  *microvm.Manager
	images   *image.Manager
	builders *microvm.Builders
	records  *store.Store
	logs     *logfile.Folder
	watch    *watch
	clock    clockwork.Clock
}

// run starts what was wired, and stops it in the order in which nothing is lost: no new requests,
// builds given up, microVMs suspended.
func run(ctx context.Context, servers *errgroup.Group, o serveOptions, told *announcement, log *slog.Logger, p parts) error {
	listener, err := listenAPI(ctx, o.listenAPI)
	if err != nil {
		return err
	}
	if err := p.manager.Start(ctx, p.door); err != nil {
		return err
	}
	if err := p.images.Recover(ctx); err != nil {
		return err
	}
	addresses := connection.Daemon{
		API: listener.Addr().String(), S3: p.s3.address(), Endpoint: p.door.Addr().String(), Region: o.region,
		CABundle: p.trust.clientCA, PID: os.Getpid(), Builder: connection.BuilderPreparing,
	}
	if o.addresses.endpointMode() == endpoint.ModeDomain {
		addresses.Names = p.door.EndpointHost("*", "")
	}
	if p.builders.Prepared() {
		addresses.Builder = connection.BuilderReady
	}
	if err := told.serve(addresses); err != nil {
		return err
	}
	log.Info("dormouse serves", "version", version, "api", addresses.API, "s3", addresses.S3, "endpoints", addresses.Endpoint, "data", o.dataDir)

	finish := p.watch.run(ctx, servers.Go)
	endpoints := context.WithoutCancel(ctx) // they end by Shutdown
	servers.Go(func() error { return serveAPI(ctx, listener, p.api) })
	servers.Go(func() error { return p.s3.serve(ctx) })
	servers.Go(func() error { return p.door.Serve(endpoints) })
	servers.Go(func() error { return p.trust.maintain(ctx) })
	servers.Go(func() error { purge(ctx, p.records, p.logs, o.keepTerminated, p.clock, log); return nil })
	servers.Go(func() error { return prepareBuilder(ctx, told, p.builders, log) })
	servers.Go(func() error {
		<-ctx.Done()
		log.Info("dormouse stops: suspending what runs")
		if err := told.stop(); err != nil {
			log.Error("clients may look for this daemon still", "error", err)
		}
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), suspendLimit)
		defer cancel()
		// Requests under way may end; nothing may wake a VM that is being suspended.
		draining, cut := context.WithTimeout(stopping, drainTimeout)
		defer cut()
		if err := p.door.Shutdown(draining); err != nil {
			log.Info("endpoint requests were cut off", "error", err)
		}
		p.images.Close()
		err := p.manager.Shutdown(stopping)
		told.count(p.manager.States())
		finish()
		return err
	})
	if err := servers.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("dormouse stopped")
	return nil
}

// prepareBuilder makes the builder's snapshot ahead of the first build, where that has not been done,
// and lets clients know.
func prepareBuilder(ctx context.Context, told *announcement, builders *microvm.Builders, log *slog.Logger) error {
	state := connection.BuilderReady
	if _, err := builders.Prepare(ctx); err != nil && ctx.Err() == nil {
		log.Error("the builder could not be prepared; builds will try again", "error", err)
		state = connection.BuilderFailed
	}
	if ctx.Err() == nil {
		return told.builder(state)
	}
	return nil
}

func newLog(to io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: level}))
}

// warmth translates the flag: the manager takes zero for its default.
func warmth(flag int) int {
	if flag <= 0 {
		return -1
	}
	return flag
}

// s3Server is the embedded S3, or the client of an external one.
type s3Server struct {
	client   *objectstore.Client
	embedded *objectstore.Server // nil with an external S3
	listener net.Listener
}

func openS3(ctx context.Context, o serveOptions, records *store.Store, log *slog.Logger) (s *s3Server, err error) {
	s = &s3Server{}
	if o.s3.Endpoint == "" {
		config := objectstore.ServerConfig{Dir: filepath.Join(o.dataDir, "s3"), Credentials: credentials{records}, Log: log}
		if s.embedded, err = objectstore.NewServer(config); err != nil {
			return nil, err
		}
		if s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", o.listenS3); err != nil {
			s.close()
			return nil, fmt.Errorf("listen for S3 (--listen-s3): %w", err)
		}
		o.s3.Embedded = s.embedded
	}
	if s.client, err = objectstore.NewClient(ctx, o.s3); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *s3Server) address() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

func (s *s3Server) serve(ctx context.Context) error {
	if s.embedded == nil {
		<-ctx.Done()
		return nil
	}
	return s.embedded.Serve(ctx, s.listener)
}

func (s *s3Server) close() {
	if s.embedded != nil {
		_ = s.embedded.Close()
	}
}
