package microvm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/telemetry"
)

// The builder is an image like any other, but for its capabilities and its registry mirror. 2 GiB
// and two cores: BuildKit takes 0.2 GiB, compilers and package managers the rest.
var builderSize = Size{MemoryMiB: 2 << 10, CPUs: 2, DiskBytes: 32 << 30}

// mirrorAddr is where a builder reaches the local registry; set-up wrote it into its buildkitd.toml.
var mirrorAddr = netip.MustParseAddrPort("10.0.2.4:5000")

// buildkitPort is where buildkitd listens on the builder's loopback.
const buildkitPort = 1234

// BuilderConfig says what builders are made from.
type BuilderConfig struct {
	Rootfs string            // file
	App    guest.BootRequest // starts buildkitd
	Digest string            // changes when Rootfs or App does
	// Snapshots is the folder where builder snapshots are kept, which data folders may share.
	Snapshots string
	// Mirror serves the local base images to builders, unless these ask the registry itself.
	Mirror http.Handler
	// Local serves them to builders that reach no network.
	Local http.Handler
	// WarmUp runs builds in the builder before its snapshot is taken, so that what every build
	// needs is in memory already; nil = none. WarmUpKey changes when what it does changes.
	WarmUp    func(ctx context.Context, dial func(context.Context) (net.Conn, error)) error
	WarmUpKey string
	// Log tells what the making of the snapshot does.
	Log io.Writer
}

// Builders starts builder microVMs from their snapshot, which it makes when it is first needed.
type Builders struct {
	m      *Manager
	cfg    BuilderConfig
	making chan struct{}   // full while the snapshot is opened or made, which takes long
	image  *snapshot.Image // guarded by making
}

// NewBuilders returns the builders of a manager.
func NewBuilders(m *Manager, cfg BuilderConfig) *Builders {
	return &Builders{m: m, cfg: cfg, making: make(chan struct{}, 1)}
}

// Builder is one running builder microVM.
type Builder struct {
	session *session
	dir     string
	sealed  bool
}

// Sealed tells whether the builder reaches no network at all.
func (b *Builder) Sealed() bool { return b.sealed }

// Dial connects to buildkitd.
func (b *Builder) Dial(ctx context.Context) (net.Conn, error) {
	return b.session.client.Forward(ctx, buildkitPort)
}

// Close throws the builder and all it holds away.
func (b *Builder) Close() error {
	b.session.end()
	return os.RemoveAll(b.dir)
}

// Start starts a builder whose builds may reach what the egress connectors allow. Each refusal is
// told to note, within bounds.
func (b *Builders) Start(ctx context.Context, egress []string, note func(text string)) (*Builder, error) {
	image, err := b.Prepare(ctx)
	if err != nil {
		return nil, fmt.Errorf("prepare the builder: %w", err)
	}
	dir, err := os.MkdirTemp(b.m.runsDir(), "builder-")
	if err != nil {
		return nil, fmt.Errorf("start a builder: %w", err)
	}
	policy := b.m.egress(ctx, egress)
	network := b.network(policy)
	network.Policy, network.Denied = policy, noteDenials(note)
	from := origin{image: image, disk: filepath.Join(dir, snapshot.DiskFile), network: network}
	from.request.Hostname = "builder"
	s, _, err := b.m.launcher.startSession(ctx, from, telemetry.Begin(b.m.clock, "disk"))
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start a builder: %w", err)
	}
	return &Builder{session: s, dir: dir, sealed: policy.Sealed()}, nil
}

// Prepare opens the builder's snapshot, or makes it: that boots the builder, waits for buildkitd
// and warms it up. It takes about 15 s once per version of what goes into it.
func (b *Builders) Prepare(ctx context.Context) (*snapshot.Image, error) {
	select {
	case b.making <- struct{}{}:
		defer func() { <-b.making }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if b.image != nil {
		return b.image, nil
	}
	if err := os.MkdirAll(b.cfg.Snapshots, 0o700); err != nil {
		return nil, err
	}
	// Daemons with other data folders share the folder.
	unlock, err := b.lock(ctx, filepath.Join(b.cfg.Snapshots, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	dir := filepath.Join(b.cfg.Snapshots, b.key())
	image, err := snapshot.Open(dir, b.m.cfg.Present)
	if errors.Is(err, fs.ErrNotExist) {
		image, err = b.make(ctx, dir)
	}
	if err != nil {
		return nil, err
	}
	b.image = image
	return image, nil
}

// Prepared tells whether the snapshot is there.
func (b *Builders) Prepared() bool {
	_, err := snapshot.Open(filepath.Join(b.cfg.Snapshots, b.key()), b.m.cfg.Present)
	return err == nil
}

// key names the snapshot after everything it depends on.
func (b *Builders) key() string {
	present := b.m.cfg.Present
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []string{
		present.VMM, present.Kernel, present.Initramfs, b.cfg.Digest, b.cfg.WarmUpKey, fmt.Sprint(builderSize),
		guest.CommandLine([guest.SecretSize]byte{}, b.m.cfg.Boot.TSCkHz),
	}))
	return hex.EncodeToString(sum[:8])
}

func (b *Builders) make(ctx context.Context, dir string) (*snapshot.Image, error) {
	if err := b.removeUnfinished(); err != nil {
		return nil, err
	}
	temporary, err := os.MkdirTemp(b.cfg.Snapshots, unfinished+"*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temporary)
	root := filepath.Join(temporary, snapshot.RootFile)
	if err := os.Link(b.cfg.Rootfs, root); err != nil {
		if err := snapshot.Clone(ctx, b.cfg.Rootfs, root); err != nil {
			return nil, err
		}
	}
	app := b.cfg.App
	app.Hostname = "builder"
	network := b.network(b.m.cfg.Network.Policy)
	network.Policy = b.m.cfg.Network.Policy
	s, err := b.m.boot(ctx, guestSpec{dir: temporary, size: builderSize, app: app, network: network, log: b.cfg.Log})
	if err != nil {
		return nil, err
	}
	defer s.end()
	if err := b.warmUp(ctx, s); err != nil {
		return nil, err
	}
	if _, err := b.m.take(ctx, s, temporary, builderSize, 0); err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return nil, err
	}
	if err := snapshot.SyncDir(b.cfg.Snapshots); err != nil {
		return nil, err
	}
	return snapshot.Open(dir, b.m.cfg.Present)
}

// unfinished is what the names of folders begin with in which a snapshot is being made.
const unfinished = "making-"

// removeUnfinished removes what a crash left. The caller holds the lock.
func (b *Builders) removeUnfinished() error {
	left, err := filepath.Glob(filepath.Join(b.cfg.Snapshots, unfinished+"*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

func (b *Builders) warmUp(ctx context.Context, s *session) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	app := b.m.follow(watching, s, b.cfg.Log, 0)
	if err := b.m.awaitPort(ctx, s, buildkitPort, app); err != nil {
		return fmt.Errorf("wait for buildkitd: %w", err)
	}
	if b.cfg.WarmUp == nil {
		return nil
	}
	dial := func(ctx context.Context) (net.Conn, error) { return s.client.Forward(ctx, buildkitPort) }
	if err := b.cfg.WarmUp(ctx, dial); err != nil {
		// Not wrapped: whatever is wrong with it is no fault of the build that waits for the builder.
		return errors.New("warm up: " + err.Error())
	}
	return nil
}

// lockPoll is how often a lock that another daemon holds is tried again.
const lockPoll = 200 * time.Millisecond

// lock takes the lock of a file, which ends with the process at the latest.
func (b *Builders) lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("wait for another daemon that makes the builder's snapshot: %w", context.Cause(ctx))
		case <-b.m.clock.After(lockPoll):
		}
	}
}
