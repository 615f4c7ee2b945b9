package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/jonboulle/clockwork"
	"github.com/spf13/pflag"

	"github.com/dormouse-dev/dormouse/internal/image"
	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/logship"
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

	// credentials of a role for sending its logs; nil: the daemon's own, for every role.
	credentials logship.RoleCredentials
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

// open makes what the flags ask for. It sends nothing yet.
func (o observability) open(ctx context.Context, dataDir string, records *store.Store, logs *logfile.Folder, clock clockwork.Clock, log *slog.Logger) (w *watch, err error) {
	if !(o.traceRequests >= 0 && o.traceRequests <= 1) { // neither is NaN
		return nil, usagef("--trace-requests: %v is no share: it is a number from 0 to 1", o.traceRequests)
	}
	w = &watch{clock: clock, log: log}
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
	credentials := o.credentials
	if credentials == nil {
		credentials = hostCredentials()
	}
	return logship.NewCloudWatch(logship.CloudWatchConfig{
		Endpoint: o.cloudWatch, Region: o.cloudWatchRegion, Credentials: credentials, Clock: clock, Log: log,
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
