// Package assets locates what set-up made (kernel, initramfs, agent, base images, builder) and checks that it is complete.
package assets

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// The folders of the asset folder, one per asset, each with a manifest beside its files.
const (
	KernelAsset    = "kernel"
	AgentAsset     = "agent"
	BuildkitdAsset = "buildkitd"
	RuncAsset      = "runc"
	InitramfsAsset = "initramfs"
	BaseAsset      = "base"
	BuilderAsset   = "builder"
)

// The files that set-up puts into those folders.
const (
	KernelImage       = "vmlinuz"                           // in KernelAsset; the distribution's name for bzImage (amd64) and Image (arm64)
	KernelModules     = "modules"                           // in KernelAsset; what the distribution installs as /lib/modules/<version>
	AgentBinary       = "dormouse-guest"                    // in AgentAsset
	Buildkitd         = "buildkitd"                         // in BuildkitdAsset
	Runc              = "runc"                              // in RuncAsset
	InitramfsImage    = "initramfs.cpio"                    // in InitramfsAsset
	InitramfsAllImage = "initramfs-all.cpio"                // in InitramfsAsset; with the modules of guests with all capabilities
	BaseLayout        = "layout"                            // in BaseAsset; an OCI image layout
	BuilderRootfs     = "rootfs.ext4"                       // in BuilderAsset
	RefName           = "org.opencontainers.image.ref.name" // annotation of each descriptor in the index.json of BaseLayout: "debian:12"
)

// ErrIncomplete is what Open and Verify return (wrapped) when an asset is missing, cut short or
// changed; the text around it names the asset and the way out.
var ErrIncomplete = errors.New("run `make setup`")

// Set is every asset, found and complete.
type Set struct {
	Dir       string
	Kernel    Kernel
	Initramfs File
	// InitramfsAll is Initramfs with the kernel modules of guests with all capabilities.
	InitramfsAll File
	Agent        File // static dormouse-guest, which the initramfs contains too
	// Base is a folder: an OCI image layout with uncompressed layers. Each descriptor of its
	// index.json carries one reference ("debian:12") in the RefName annotation.
	Base string
	// BaseDigest changes whenever anything in Base does.
	BaseDigest string
	Builder    Builder
}

// File is one file of an asset.
type File struct {
	Path   string
	Digest string // "sha256:<hex>"
	Size   int64  // bytes
}

// Kernel is the guest kernel, unpacked from the distribution's package.
type Kernel struct {
	Image   string // path
	Modules string // path of the modules tree, what the package installs as /lib/modules/<Version>
	Version string // as uname -r prints it, "6.1.0-50-cloud-amd64"
	Digest  string // of Image, "sha256:<hex>"
}

// Builder is the microVM that runs BuildKit.
type Builder struct {
	Rootfs string // path of an ext4 image, never written to
	// Boot starts buildkitd; the caller fills in Hostname, Secret and UnixNanos.
	Boot guest.BootRequest
	// Digest changes whenever the root file system or Boot does.
	Digest string
}

// DefaultDir is the asset folder of this user: $DORMOUSE_ASSETS, else dormouse in the user's
// cache folder ($XDG_CACHE_HOME or ~/.cache). All data folders share it.
func DefaultDir() string {
	if dir := os.Getenv("DORMOUSE_ASSETS"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil { // no HOME: a service
		cache = "/var/cache"
	}
	return filepath.Join(cache, "dormouse")
}

// Open finds the assets in dir ("" means DefaultDir) and checks that each is complete: every
// file of its manifest is there with its recorded size. Contents are not read; see Verify.
func Open(dir string) (*Set, error) {
	if dir == "" {
		dir = DefaultDir()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("asset folder: %w", err)
	}
	manifests := map[string]*Manifest{}
	for _, asset := range []string{KernelAsset, AgentAsset, InitramfsAsset, BaseAsset, BuilderAsset} {
		m, err := ReadManifest(filepath.Join(dir, asset))
		if err != nil {
			return nil, err
		}
		if err := m.CheckSizes(); err != nil {
			return nil, err
		}
		manifests[asset] = m
	}
	return newSet(dir, manifests)
}

func newSet(dir string, manifests map[string]*Manifest) (*Set, error) {
	kernel, err := manifests[KernelAsset].File(KernelImage)
	if err != nil {
		return nil, err
	}
	agent, err := manifests[AgentAsset].File(AgentBinary)
	if err != nil {
		return nil, err
	}
	initramfs, err := manifests[InitramfsAsset].File(InitramfsImage)
	if err != nil {
		return nil, err
	}
	initramfsAll, err := manifests[InitramfsAsset].File(InitramfsAllImage)
	if err != nil {
		return nil, err
	}
	rootfs, err := manifests[BuilderAsset].File(BuilderRootfs)
	if err != nil {
		return nil, err
	}
	boot := manifests[BuilderAsset].Boot
	if boot == nil {
		return nil, fmt.Errorf("asset %s: its manifest does not say how to boot it: %w", BuilderAsset, ErrIncomplete)
	}
	return &Set{
		Dir: dir,
		Kernel: Kernel{
			Image:   kernel.Path,
			Modules: filepath.Join(dir, KernelAsset, KernelModules),
			Version: manifests[KernelAsset].Version,
			Digest:  kernel.Digest,
		},
		Initramfs:    initramfs,
		InitramfsAll: initramfsAll,
		Agent:        agent,
		Base:         filepath.Join(dir, BaseAsset, BaseLayout),
		BaseDigest:   manifests[BaseAsset].Digest(),
		Builder: Builder{
			Rootfs: rootfs.Path,
			Boot:   *boot,
			Digest: manifests[BuilderAsset].Digest(),
		},
	}, nil
}

// Verify reads every file of every asset and compares it with its recorded digest. It reads some
// hundred megabytes; Open's check of sizes is what a start can afford.
func (s *Set) Verify() error {
	for _, asset := range []string{KernelAsset, AgentAsset, InitramfsAsset, BaseAsset, BuilderAsset} {
		m, err := ReadManifest(filepath.Join(s.Dir, asset))
		if err != nil {
			return err
		}
		if err := m.CheckDigests(); err != nil {
			return err
		}
	}
	return nil
}
