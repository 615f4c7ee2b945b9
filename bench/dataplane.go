package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/bench/direct"
	"github.com/dormouse-dev/dormouse/bench/floor"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	extension "github.com/dormouse-dev/dormouse/internal/extension/client"
	"github.com/dormouse-dev/dormouse/internal/vmm/qemu"
)

// dataPlane is what was measured of all that happens between a client and a running app. What was
// left out is nil.
type dataPlane struct {
	bench    *bench
	product  *product
	events   *extension.Client
	snapshot floor.Snapshot

	transfers *transfers
	latency   *latency
	sockets   *sockets
	volleys   *volleys
	steady    *steady
}

// measureDataPlane uses a daemon of its own, and an app that is fast enough not to be what is measured.
func (b *bench) measureDataPlane(ctx context.Context) (d *dataPlane, err error) {
	fmt.Println("data plane: start a daemon, build the app's image")
	running, err := startDaemon(ctx, b.options.binary, filepath.Join(b.scratch, "data-plane"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, running.stop()) }()
	d = &dataPlane{bench: b}
	if d.product, err = connect(ctx, running); err != nil {
		return nil, err
	}
	d.events = extension.New(d.product.api)
	if err := d.buildApp(ctx, filepath.Join(b.scratch, "app")); err != nil {
		return nil, err
	}
	if d.snapshot, err = findSnapshot(running.dataDir); err != nil {
		return nil, err
	}
	if b.snapshot.Dir == "" { // nothing else was measured
		b.snapshot = d.snapshot
		if b.machine, err = b.describeMachine(); err != nil {
			return nil, err
		}
	}
	if b.options.does(partThroughput, partLatency) {
		if err := d.compareWays(ctx); err != nil {
			return nil, err
		}
	}
	if b.options.does(partWebSockets) {
		if d.sockets, err = d.measureSockets(ctx); err != nil {
			return nil, fmt.Errorf("WebSockets: %w", err)
		}
	}
	if b.options.does(partVolley) {
		if d.volleys, err = d.measureVolleys(ctx); err != nil {
			return nil, fmt.Errorf("volleys: %w", err)
		}
	}
	if b.options.does(partSteady) {
		if d.steady, err = d.measureSteady(ctx); err != nil {
			return nil, fmt.Errorf("steady traffic: %w", err)
		}
	}
	return d, nil
}

//go:embed app/Dockerfile
var appDockerfile []byte

// buildApp compiles the app, statically, into the folder its image is made from.
func (d *dataPlane) buildApp(ctx context.Context, dir string) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), appDockerfile, 0o600); err != nil {
		return err
	}
	compile := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "app"),
		"github.com/dormouse-dev/dormouse/bench/app")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the app: %w\n%s", err, out)
	}
	if err := d.product.upload(ctx, dir, "bench", "app.zip"); err != nil {
		return fmt.Errorf("upload the app: %w", err)
	}
	d.product.imageARN, err = d.product.build(ctx, "bench-data-plane", awsapi.HookStateDisabled)
	return err
}

// compareWays runs guests of the same snapshot, one in the daemon and two in this process, and asks them in turn.
// Each way has a guest of its own: one that is asked twice as often as another has the warmer caches.
func (d *dataPlane) compareWays(ctx context.Context) (err error) {
	vm, _, err := d.product.launch(ctx)
	if err != nil {
		return fmt.Errorf("launch a VM to compare: %w", err)
	}
	defer func() { err = errors.Join(err, d.product.terminate(ctx, vm)) }()
	var guests [2]*direct.Guest
	for i := range guests {
		guest, err := direct.Start(ctx, d.snapshot.Dir, d.bench.scratch, qemu.Accelerator(d.snapshot.Accel))
		if err != nil {
			return fmt.Errorf("start a guest to compare with: %w", err)
		}
		defer guest.Close()
		guests[i] = guest
	}
	ways := []*way{
		straight(wayDirect, guests[0].PID(), guests[0].Dial),
		straight(wayAgent, guests[1].PID(), guests[1].DialThroughAgent),
		d.product.endpoint(vm),
	}
	defer func() {
		for _, w := range ways {
			w.close()
		}
	}()
	if d.bench.options.does(partLatency) {
		if d.latency, err = measureLatency(ctx, ways, d.bench.options.requests); err != nil {
			return fmt.Errorf("latency: %w", err)
		}
	}
	if d.bench.options.does(partThroughput) {
		if d.transfers, err = measureTransfers(ctx, ways, d.bench.options.transfer); err != nil {
			return fmt.Errorf("throughput: %w", err)
		}
	}
	return nil
}

// inTurn is the n-th order of the ways: each has every place as often as the others.
func inTurn[T any](ways []T, n int) []T {
	first := n % len(ways)
	return append(append([]T(nil), ways[first:]...), ways[:first]...)
}
