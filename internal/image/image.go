// Package image makes images: it runs the build pipeline, from the zip in S3 to the snapshot microVMs are launched from, and removes what it made.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/semaphore"

	"github.com/dormouse-dev/dormouse/internal/image/artifact"
	"github.com/dormouse-dev/dormouse/internal/image/buildkit"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/objectstore"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Records is what the manager keeps in the store.
type Records interface {
	CreateImage(ctx context.Context, i store.Image, v store.ImageVersion, b store.Build, token *store.ClientToken, e store.Event) error
	AddVersion(ctx context.Context, from []string, v store.ImageVersion, b store.Build, token *store.ClientToken, e store.Event) (store.ImageVersion, store.Build, error)
	ChangeImage(ctx context.Context, c store.ImageChange) error
	BeginDeleteImage(ctx context.Context, id string, from []string, e store.Event) error
	DeleteImage(ctx context.Context, id string) error
	BeginDeleteVersion(ctx context.Context, imageID, version string, from []string, e store.Event) error
	DeleteVersion(ctx context.Context, imageID, version string, e store.Event) error
	DeletingVersions(ctx context.Context, imageID string) ([]store.ImageVersion, error)
	Image(ctx context.Context, id string) (store.Image, error)
	ListVersions(ctx context.Context, imageID string, p store.Page) ([]store.ImageVersion, int64, error)
	ListBuilds(ctx context.Context, imageID, version string, p store.Page) ([]store.Build, int64, error)
	UnfinishedImages(ctx context.Context) ([]store.Image, error)
	UnfinishedBuilds(ctx context.Context) ([]store.Build, error)
}

// Objects reads code artifacts.
type Objects interface {
	// Fetch streams s3://bucket/key into w; an object of more than limit bytes is refused. What the
	// user can do something about is an *objectstore.FetchError.
	Fetch(ctx context.Context, as objectstore.Reader, uri string, w io.Writer, limit int64) (int64, error)
}

// VMs boots and snapshots images.
type VMs interface {
	// Bake makes the snapshot of an image's root file system. Errors are *microvm.BakeError
	// where the image is to blame.
	Bake(ctx context.Context, spec microvm.BakeSpec) (*snapshot.Image, error)
	// ForgetImage lets go of a version that is about to be deleted.
	ForgetImage(imageID, version string)
}

// Builder is one microVM with buildkitd in it.
type Builder interface {
	// Dial connects to buildkitd.
	Dial(ctx context.Context) (net.Conn, error)
	// Sealed tells whether it reaches no network, so that only local base images will do.
	Sealed() bool
	// Close throws the microVM and all it holds away.
	Close() error
}

// Bases are the base images that builders get from this host.
type Bases interface {
	// Dir is an OCI layout; blobs it has are not transferred out of a builder.
	Dir() string
	// Names are what Dockerfiles call them.
	Names() []string
	// Online tells whether builders use the registry itself instead.
	Online(ctx context.Context) bool
}

// Config is what a manager needs. Zero limits mean the defaults.
type Config struct {
	Dir     string // data folder
	Records Records
	Objects Objects
	VMs     VMs
	// StartBuilder starts a builder whose builds reach what the egress connectors allow, and tells
	// note what they try to reach beyond it.
	StartBuilder func(ctx context.Context, egress []string, note func(text string)) (Builder, error)
	Bases        Bases
	// Credentials are those of the build role, nil where the configuration has none; may be nil.
	Credentials func(who microvm.Identity) aws.CredentialsProvider
	Clock       clockwork.Clock
	Log         *slog.Logger
	LogEnded    func(buildID string) // told when the log of a build is complete; nil: nobody is

	Builds        int           // at once, others queue; default 5 (spec/behaviour.md 13)
	BuildTime     time.Duration // from the fetch to the export; default 1 h
	ArtifactBytes int64         // of a zip; default 2 GiB
	Archive       artifact.Limits
}

// Manager makes and removes images. It is safe for concurrent use.
type Manager struct {
	cfg     Config
	slots   *semaphore.Weighted // builds at once, first come first served
	running context.Context     // until stop
	stop    context.CancelCauseFunc
	// runDockerfile is buildkit.Run, but for tests.
	runDockerfile func(context.Context, buildkit.Dial, buildkit.Build) error

	mu      sync.Mutex // guards closing, and work against being added to when it is set
	closing bool
	work    sync.WaitGroup
}

// ErrClosing means that the daemon is about to stop.
var ErrClosing = errors.New("the daemon is about to stop")

// New returns a manager. Recover has to run before anything else is asked of it.
func New(cfg Config) *Manager {
	if cfg.Builds == 0 {
		cfg.Builds = 5
	}
	if cfg.BuildTime == 0 {
		cfg.BuildTime = time.Hour
	}
	if cfg.ArtifactBytes == 0 {
		cfg.ArtifactBytes = 2 << 30
	}
	if cfg.Archive == (artifact.Limits{}) {
		cfg.Archive = artifact.DefaultLimits
	}
	if cfg.Credentials == nil {
		cfg.Credentials = func(microvm.Identity) aws.CredentialsProvider { return nil }
	}
	if cfg.LogEnded == nil {
		cfg.LogEnded = func(string) {}
	}
	m := &Manager{cfg: cfg, slots: semaphore.NewWeighted(int64(cfg.Builds)), runDockerfile: buildkit.Run}
	m.running, m.stop = context.WithCancelCause(context.Background())
	return m
}

// Close ends the builds that run, which fail for that reason, and waits for them.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closing = true
	m.mu.Unlock()
	m.stop(errInterrupted)
	m.work.Wait()
}

// background runs f until the manager is closed, or refuses because it is.
func (m *Manager) background(f func(ctx context.Context)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return ErrClosing
	}
	m.work.Go(func() { f(m.running) })
	return nil
}

// buildsDir holds what builds under way have made so far, on the file system of the images.
func (m *Manager) buildsDir() string { return filepath.Join(m.cfg.Dir, "builds") }

// LogFile is where the log of a build is, while it runs and until its version is deleted.
func LogFile(dataDir, buildID string) string {
	return filepath.Join(LogDir(dataDir), buildID+logSuffix)
}

// LogDir has the logs of builds.
func LogDir(dataDir string) string { return filepath.Join(dataDir, "logs", "builds") }

// UnsentDir has a file for each build whose log was not sent on yet, of its id: it tells where which part of the log begins.
func UnsentDir(dataDir string) string { return filepath.Join(dataDir, "logs", unsentName) }

const (
	logSuffix  = ".log"
	unsentName = "unsent"
)

func (m *Manager) makeDirs() error {
	for _, dir := range []string{m.buildsDir(), LogDir(m.cfg.Dir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make folders for builds: %w", err)
		}
	}
	return nil
}
