// Command bench measures what launches, suspends, wakes and traffic cost through Dormouse and, in the same run, what they cost without it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dormouse-dev/dormouse/bench/floor"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// options are the flags.
type options struct {
	binary    string
	app       string
	dir       string
	rounds    int
	burst     int
	suspended int
	rows      int
	parts     []part
	out       string
	report    string
	keep      bool

	transfer     int // MiB
	requests     int
	sockets      int
	socketTime   time.Duration
	volley       int
	steadyRounds int
}

func parseOptions() (o options, err error) {
	flag.StringVar(&o.binary, "dormouse", "bin/dormouse", "program to measure")
	flag.StringVar(&o.app, "app", "examples/counter", "folder of the app to measure with")
	flag.StringVar(&o.dir, "dir", "data", "folder to make the data folder in; its file system is part of what is measured")
	flag.IntVar(&o.rounds, "rounds", 20, "rounds of launch, suspend and wake")
	flag.IntVar(&o.burst, "burst", 20, "launches at once")
	flag.IntVar(&o.suspended, "suspended", 50, "suspended VMs to watch the idle daemon with")
	flag.IntVar(&o.rows, "rows", 10_000, "images, and as many microVMs, to ask the control plane about")
	flag.IntVar(&o.transfer, "transfer", 64, "MiB of a body, for throughput")
	flag.IntVar(&o.requests, "requests", 1000, "small requests on each way, for latency")
	flag.IntVar(&o.sockets, "sockets", 500, fmt.Sprintf("WebSockets over %d VMs", socketVMs))
	flag.DurationVar(&o.socketTime, "socket-time", 20*time.Second, "how long the WebSockets talk")
	flag.IntVar(&o.volley, "volley", 1000, "requests fired at a suspended VM")
	flag.IntVar(&o.steadyRounds, "steady-rounds", 200, "rounds of suspend and wake under traffic")
	only := flag.String("only", "", "parts to run, comma-separated, with the goals printed and no file written; all parts are\n"+strings.Join(allParts, ", "))
	skip := flag.String("skip", "", "parts to leave out, comma-separated")
	flag.StringVar(&o.out, "out", "bench/latest.json", "file to write the numbers to")
	flag.StringVar(&o.report, "report", "docs/benchmarks.md", "file to write the tables to")
	flag.BoolVar(&o.keep, "keep", false, "keep the data folder")
	flag.Parse()
	if *only != "" {
		o.out, o.report = "", ""
	}
	o.parts, err = chosen(*only, *skip)
	return o, err
}

// bench is one run: what it uses and what it has measured so far.
type bench struct {
	options  options
	scratch  string // folder of everything this run makes
	daemon   *daemon
	product  *product // on the image whose hooks at run time are off: the floor calls none
	hooked   *product // on the same app with all hooks on
	snapshot floor.Snapshot
	machine  machine

	startRSS    int64 // bytes
	imageBefore imageMemory
	imageAfter  imageMemory
	ours        []round
	oursHooked  []round
	bare        []floor.Sample
	alone       guests // one VM runs
	together    guests // all of the burst run
	crowd       *crowd
	asleep      suspended
	idle        *idleDaemon
	control     *controlPlane
	verb        []time.Duration // user time of a verb of the command line
	data        *dataPlane
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	options, err := parseOptions()
	if err == nil {
		err = run(ctx, options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	b := &bench{options: o}
	if b.scratch, err = os.MkdirTemp(o.dir, "bench-"); err != nil {
		return err
	}
	if o.keep {
		fmt.Println("the data folder stays in", b.scratch)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(b.scratch)) }()
	}
	if o.does(append(lifecycleParts, partControl)...) {
		if err := b.measureVMs(ctx); err != nil {
			return err
		}
	}
	if o.does(dataParts...) {
		if b.data, err = b.measureDataPlane(ctx); err != nil {
			return fmt.Errorf("data plane: %w", err)
		}
	}
	r := b.summarize()
	r.print()
	return r.writeFiles(o)
}

// measureVMs measures the life of VMs, and the control plane, on a daemon of their own.
func (b *bench) measureVMs(ctx context.Context) (err error) {
	fmt.Println("start the daemon, build the images")
	if b.daemon, err = startDaemon(ctx, b.options.binary, filepath.Join(b.scratch, "data")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.daemon.stop()) }()
	if b.product, err = connect(ctx, b.daemon); err != nil {
		return err
	}
	if b.startRSS, err = residentBytes(b.daemon.pid()); err != nil {
		return err
	}
	if err := b.buildImages(ctx); err != nil {
		return err
	}
	if b.machine, err = b.describeMachine(); err != nil {
		return err
	}
	return b.measure(ctx)
}

// buildImages makes two images of the app, without and with its hooks at run time.
func (b *bench) buildImages(ctx context.Context) (err error) {
	if err := b.product.upload(ctx, b.options.app, "bench", "app.zip"); err != nil {
		return fmt.Errorf("upload the app: %w", err)
	}
	if b.product.imageARN, err = b.product.build(ctx, "bench", awsapi.HookStateDisabled); err != nil {
		return err
	}
	if b.snapshot, err = findSnapshot(b.daemon.dataDir); err != nil {
		return err
	}
	hooked := *b.product
	b.hooked = &hooked
	b.hooked.imageARN, err = b.product.build(ctx, "bench-hooks", awsapi.HookStateEnabled)
	return err
}

// measure does all measurements, each alone.
func (b *bench) measure(ctx context.Context) (err error) {
	if b.imageBefore, err = b.lookAtImage(); err != nil {
		return err
	}
	if err := b.warmUp(ctx); err != nil {
		return err
	}
	if b.options.does(partRounds) {
		if err := b.rounds(ctx); err != nil {
			return err
		}
	}
	if err := b.measureMany(ctx); err != nil {
		return err
	}
	if b.imageAfter, err = b.lookAtImage(); err != nil {
		return err
	}
	if !b.options.does(partControl) {
		return nil
	}
	if b.verb, err = b.measureVerb(ctx); err != nil {
		return err
	}
	b.control, err = b.measureControl(ctx, b.options.rows)
	return err
}

// warmUp launches a VM that is not timed: it brings the image's files into the page cache, for
// product and floor alike. It also is the lone VM whose memory is looked at.
func (b *bench) warmUp(ctx context.Context) error {
	fmt.Println("one VM alone")
	vm, _, err := b.product.launch(ctx)
	if err != nil {
		return fmt.Errorf("launch a first VM: %w", err)
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	if b.alone, err = b.guestMemory(1); err != nil {
		return err
	}
	return b.product.terminate(ctx, vm)
}

// measureMany launches a burst, suspends as many VMs as the idle daemon is to be watched with, and
// watches it.
func (b *bench) measureMany(ctx context.Context) (err error) {
	var running []microVM
	if b.options.does(partBurst) {
		if err := b.settle(ctx); err != nil {
			return err
		}
		fmt.Println(b.options.burst, "launches at once")
		b.crowd = b.product.burst(ctx, b.options.burst)
		running = b.crowd.vms
		if b.together, err = b.guestMemory(len(running)); err != nil {
			return err
		}
	}
	if !b.options.does(partSuspended) {
		return nil
	}
	fmt.Println("suspend", b.options.suspended, "VMs")
	for _, vm := range running {
		if err := b.putToSleep(ctx, vm); err != nil {
			return err
		}
	}
	for len(b.asleep.disk) < b.options.suspended {
		vm, _, err := b.product.launch(ctx)
		if err != nil {
			return fmt.Errorf("launch a VM to suspend: %w", err)
		}
		if err := b.putToSleep(ctx, vm); err != nil {
			return err
		}
	}
	fmt.Println("watch the idle daemon")
	idle, err := b.watchIdle(ctx)
	b.idle = &idle
	return err
}
