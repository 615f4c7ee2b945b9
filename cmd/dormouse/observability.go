package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/jonboulle/clockwork"
	"github.com/spf13/pflag"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/image"
	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/logship"
	"github.com/dormouse-dev/dormouse/internal/metrics"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/spans"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// observability are the flags of serve about log groups, metrics and traces.
type observability struct {
	cloudWatch, cloudWatchRegion string
	groupsKeep                   time.Duration
	groupsBytes                  int64
	listenMetrics                string
	otlp                         string
	traceRequests                float64
}

func (o *observability) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.cloudWatch, "cloudwatch-logs-endpoint", "", "URL of a service that speaks the protocol of CloudWatch Logs; gets the logs of microVMs and builds that have a role, which otherwise are files in the data folder")
	f.StringVar(&o.cloudWatchRegion, "cloudwatch-logs-region", "", "region to sign for there; each microVM's own by default")
	f.DurationVar(&o.groupsKeep, "log-groups-keep", 7*24*time.Hour, "how long the files of log groups are kept after their last line")
	f.Int64Var(&o.groupsBytes, "log-groups-bytes", 1<<30, "how much of the files of log groups is kept per account; the newest")
	f.StringVar(&o.listenMetrics, "listen-metrics", "", "address at which Prometheus may scrape /metrics, as 127.0.0.1:7072; nowhere by default")
	f.StringVar(&o.otlp, "otlp-endpoint", "", "URL of an OpenTelemetry collector that takes traces over HTTP, as http://127.0.0.1:4318; else what OTEL_EXPORTER_OTLP_ENDPOINT says, or none")
	f.Float64Var(&o.traceRequests, "trace-requests", 0.01, "share of the requests at endpoints that is traced, of those whose client does not trace itself")
}

// groupsFolder has the files of log groups in the data folder.
const groupsFolder = "logs/groups"

// expireEvery is how often files of log groups are removed that are too old or too many.
const expireEvery = 10 * time.Minute

// lastSending bounds the sending of logs when the daemon ends. What is left is sent by the next one.
const lastSending = 5 * time.Second

// watch sees what the daemon does, and tells whom the flags name.
type watch struct {
	flags    observability
	clock    clockwork.Clock
	log      *slog.Logger
	groups   *logship.Files
	remote   *logship.CloudWatch // nil: log groups are files
	ships    *logship.Shipper
	listener net.Listener // nil: nobody scrapes

	metrics *metrics.Set    // nil: nobody scrapes
	traces  *spans.Recorder // nil: nobody takes them
}

// open makes what the flags ask for. It sends nothing yet.
func (o observability) open(ctx context.Context, dataDir string, records *store.Store, logs *logfile.Folder, clock clockwork.Clock, log *slog.Logger) (w *watch, err error) {
	w = &watch{flags: o, clock: clock, log: log}
	w.groups = logship.NewFiles(filepath.Join(dataDir, groupsFolder), logfile.DefaultAppBytes, o.groupsBytes, o.groupsKeep)
	ships := logship.Config{
		Logs: logs, BuildLog: func(id string) string { return image.LogFile(dataDir, id) }, UnsentBuilds: image.UnsentDir(dataDir),
		Records: records, Local: w.groups, Clock: clock, Log: log,
	}
	if o.cloudWatch != "" {
		if w.remote, err = o.openCloudWatch(clock, log); err != nil {
			return nil, err
		}
		ships.Remote = w.remote
	}
	w.ships = logship.New(ships)
	logs.OnGrowth(w.ships.Grown)
	if traces := (spans.Config{Endpoint: o.otlp, Version: version, Requests: o.traceRequests}); traces.Wanted() {
		if w.traces, err = spans.Open(ctx, traces); err != nil {
			return nil, usagef("--otlp-endpoint: %v", err)
		}
	}
	if o.listenMetrics != "" {
		if w.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", o.listenMetrics); err != nil {
			return nil, fmt.Errorf("listen for scrapes (--listen-metrics): %w", err)
		}
	}
	return w, nil
}

func (o observability) openCloudWatch(clock clockwork.Clock, log *slog.Logger) (*logship.CloudWatch, error) {
	if target, err := url.Parse(o.cloudWatch); err != nil || target.Host == "" {
		return nil, usagef("--cloudwatch-logs-endpoint: %q is not a URL", o.cloudWatch)
	}
	return logship.NewCloudWatch(logship.CloudWatchConfig{
		Endpoint: o.cloudWatch, Region: o.cloudWatchRegion, Credentials: hostCredentials(), Clock: clock, Log: log,
	})
}

// hostCredentials are the daemon's own, for every role.
func hostCredentials() logship.RoleCredentials {
	load := sync.OnceValues(func() (aws.Config, error) { return awsconfig.LoadDefaultConfig(context.Background()) })
	return func(context.Context, string, string) (aws.CredentialsProvider, error) {
		host, err := load()
		return host.Credentials, err
	}
}

// survey makes the metrics, when there is somebody to ask.
func (w *watch) survey(survey func() microvm.Survey) {
	if w.listener == nil {
		return
	}
	rejected := func() int64 { return 0 }
	if w.remote != nil {
		rejected = w.remote.Rejected
	}
	w.metrics = metrics.New(version, metrics.Sources{Survey: survey, Shipped: w.ships, Rejected: rejected, Clock: w.clock})
}

// idle tells that nobody wants to know what happens.
func (w *watch) idle() bool { return w == nil || w.listener == nil && w.traces == nil }

// buildEnded has the log of a build sent on.
func (w *watch) buildEnded(id string) { w.ships.BuildEnded(id) }

// watchedRecords tells of events that were recorded.
type watchedRecords struct {
	*store.Store
	seen func(store.Event)
}

// records are the same, watched if somebody wants that.
func (w *watch) records(records *store.Store) watchedRecords {
	if w.idle() {
		return watchedRecords{records, func(store.Event) {}}
	}
	return watchedRecords{records, func(e store.Event) {
		if w.metrics != nil {
			w.metrics.Event(e)
		}
		if w.traces != nil {
			w.traces.Event(e)
		}
	}}
}

func (r watchedRecords) TransitionMicroVM(ctx context.Context, m store.MicroVM, from string, e store.Event) error {
	err := r.Store.TransitionMicroVM(ctx, m, from, e)
	if err == nil {
		r.seen(e)
	}
	return err
}

func (r watchedRecords) AddEvent(ctx context.Context, e store.Event) error {
	err := r.Store.AddEvent(ctx, e)
	if err == nil {
		r.seen(e)
	}
	return err
}

func (r watchedRecords) ChangeImage(ctx context.Context, c store.ImageChange) error {
	err := r.Store.ChangeImage(ctx, c)
	if err == nil {
		for _, e := range c.Events {
			r.seen(e)
		}
	}
	return err
}

// calls watches the API.
func (w *watch) calls(api *awsapi.Handler) {
	if w.idle() {
		return
	}
	api.Observe(func(c awsapi.Call) {
		if w.metrics != nil {
			w.metrics.Call(c)
		}
		if w.traces != nil {
			w.traces.Call(c)
		}
	})
}

// requests is what watches endpoints, nil if nobody wants that.
func (w *watch) requests() func(endpoint.Observed) {
	if w.idle() {
		return nil
	}
	return func(o endpoint.Observed) {
		if w.metrics != nil {
			w.metrics.Request(o)
		}
		if w.traces != nil {
			w.traces.Request(o)
		}
	}
}

// run serves scrapes and sends logs until the function it returns is called, which sends what there is by then.
func (w *watch) run(ctx context.Context, serve func(func() error)) (finish func()) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	var sending sync.WaitGroup
	sending.Go(func() { w.ships.Run(ctx) })
	sending.Go(func() { w.expire(ctx) })
	if w.metrics != nil {
		serve(func() error { return w.serveMetrics(ctx) })
		w.log.Info("metrics are served", "address", w.listener.Addr().String())
	}
	return func() {
		stop()
		sending.Wait()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSending)
		defer cancel()
		w.ships.Drain(last)
		if w.traces == nil {
			return
		}
		if err := w.traces.Close(); err != nil {
			w.log.Warn("the last traces were not taken", "error", err)
		}
	}
}

func (w *watch) serveMetrics(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", w.metrics.Handler())
	server := &http.Server{Handler: mux, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, IdleTimeout: idleTimeout}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(w.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// expire removes files of log groups until ctx ends.
func (w *watch) expire(ctx context.Context) {
	tick := w.clock.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		if err := w.groups.Expire(w.clock.Now()); err != nil {
			w.log.Error("files of log groups could not be removed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.Chan():
		}
	}
}
