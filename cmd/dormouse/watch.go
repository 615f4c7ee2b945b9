package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/logship"
	"github.com/dormouse-dev/dormouse/internal/metrics"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/spans"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// expireEvery is how often files of log groups are removed that are too old or too many.
const expireEvery = 10 * time.Minute

// lastSending bounds the sending of logs when the daemon ends. What is left is sent by the next one.
const lastSending = 5 * time.Second

// scrapeTimeout bounds a scrape: few are answered at once, and one that does not read would keep others out.
const scrapeTimeout = 30 * time.Second

// watch sees what the daemon does, and tells whom the flags name.
type watch struct {
	clock    clockwork.Clock
	log      *slog.Logger
	groups   *logship.Files
	remote   *logship.CloudWatch // nil: log groups are files
	ships    *logship.Shipper
	listener net.Listener // nil: nobody scrapes

	metrics *metrics.Set    // nil: nobody scrapes
	traces  *spans.Recorder // nil: nobody takes them
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
	server := &http.Server{
		Handler: mux, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout,
		WriteTimeout: scrapeTimeout, IdleTimeout: idleTimeout,
	}
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
