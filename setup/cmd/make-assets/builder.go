package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/template"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	"github.com/distribution/reference"

	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/guest"
)

// mirrorAddr is where the daemon's registry listens in the network of every builder microVM.
const mirrorAddr = "10.0.2.4:5000"

// builderBoot starts buildkitd in the builder.
var builderBoot = guest.BootRequest{
	Args: []string{"/usr/bin/start-buildkitd"},
	Env: []string{
		pathEnv,
		"HOME=/root",
		// buildkitd moves itself to a child of the cgroup root, so that it can hand controllers to its containers
		"BUILDKIT_SETUP_CGROUPV2_ROOT=1",
	},
	Dir:             "/",
	AllCapabilities: true,
	Volumes:         []string{"/var/lib/buildkit"}, // overlayfs cannot have its upper layer on an overlay
}

// builderRecipe makes the root file system of the builder: no distribution, just BuildKit, runc,
// git with its libraries, CA certificates and busybox.
func builderRecipe(w *workshop) recipe {
	return recipe{
		asset: assets.BuilderAsset,
		inputs: func(context.Context) (map[string]string, error) {
			inputs, err := recipeInputs("builder.go", "rootfs.go", "archive.go", "start-buildkitd.sh", "buildkitd.toml")
			if err != nil {
				return nil, err
			}
			for asset, file := range map[string]string{assets.BuildkitdAsset: assets.Buildkitd, assets.RuncAsset: assets.Runc} {
				binary, err := w.digestOf(asset, file)
				if err != nil {
					return nil, err
				}
				inputs[asset] = binary.Digest
			}
			return inputs, nil
		},
		make: func(ctx context.Context, dir string, m *assets.Manifest) error {
			boot := builderBoot
			m.Boot = &boot
			return makeBuilder(ctx, w, filepath.Join(dir, assets.BuilderRootfs))
		},
		fix: networkFix,
	}
}

func makeBuilder(ctx context.Context, w *workshop, image string) error {
	tarFile := filepath.Join(w.scratch, "builder.tar")
	if err := writeBuilderTar(ctx, w, tarFile); err != nil {
		return err
	}
	in, err := os.Open(tarFile)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(image)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := tar2ext4.ConvertTarToExt4(in, out); err != nil {
		return fmt.Errorf("make the builder's ext4 image: %w", err)
	}
	return out.Close()
}

func writeBuilderTar(ctx context.Context, w *workshop, tarFile string) error {
	debs, err := w.archive.fetch(ctx, "git", "busybox-static", "ca-certificates")
	if err != nil {
		return err
	}
	out, err := os.Create(tarFile)
	if err != nil {
		return err
	}
	defer out.Close()
	root := newRootfs(out)
	if err := root.addSkeleton(); err != nil {
		return err
	}
	for _, deb := range debs {
		if err := w.archive.walkDeb(ctx, deb, root.addFromDeb); err != nil {
			return fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
		}
	}
	if err := root.addBusyboxLinks(ctx, w); err != nil {
		return err
	}
	if err := addBuildkit(w, root); err != nil {
		return err
	}
	if err := root.close(); err != nil {
		return err
	}
	return out.Close()
}

func addBuildkit(w *workshop, root *rootfs) error {
	for _, program := range []string{
		filepath.Join(assets.BuildkitdAsset, assets.Buildkitd),
		filepath.Join(assets.RuncAsset, assets.Runc),
	} {
		data, err := os.ReadFile(filepath.Join(w.dir, program))
		if err != nil {
			return err
		}
		if err := root.addFile("usr/bin/"+filepath.Base(program), 0o755, data); err != nil {
			return err
		}
	}
	start, err := sources.ReadFile("start-buildkitd.sh")
	if err != nil {
		return err
	}
	if err := root.addFile("usr/bin/start-buildkitd", 0o755, start); err != nil {
		return err
	}
	var config bytes.Buffer
	if err := writeBuildkitdConfig(&config); err != nil {
		return fmt.Errorf("write buildkitd's configuration: %w", err)
	}
	return root.addFile("etc/buildkit/buildkitd.toml", 0o644, config.Bytes())
}

// writeBuildkitdConfig configures the mirror for the registry that a name without a domain means.
func writeBuildkitdConfig(w io.Writer) error {
	named, err := reference.ParseNormalizedNamed("debian")
	if err != nil {
		return err
	}
	text, err := template.ParseFS(sources, "buildkitd.toml")
	if err != nil {
		return err
	}
	return text.Execute(w, map[string]string{
		"Resolver":      guest.ResolverIP,
		"DefaultDomain": reference.Domain(named),
		"Mirror":        mirrorAddr,
	})
}
