package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/dormouse-dev/dormouse/internal/assets"
)

// baseRecipe makes the base images that FROM lines find where no registry is reachable. As with
// the kernel, newer packages in the archive do not make them anew: remove the folder for that.
func baseRecipe(w *workshop) recipe {
	return recipe{
		asset: assets.BaseAsset,
		inputs: func(context.Context) (map[string]string, error) {
			return recipeInputs("base.go", "layers.go", "debian-before.sh", "debian-after.sh", "python-after.sh")
		},
		make: func(ctx context.Context, dir string, _ *assets.Manifest) error {
			return makeBase(ctx, w, filepath.Join(dir, assets.BaseLayout))
		},
		fix: networkFix + " and that user namespaces work (`unshare --user --map-auto --map-root-user true`)",
	}
}

// The packages of the debian image beside the essential ones and apt, as public registries have it,
// and CA certificates.
var debianPackages = []string{"usr-is-merged", "mount", "passwd", "e2fsprogs", "tzdata", "util-linux-extra", "ca-certificates"}

// What the python images add: the interpreter with pip and venv.
var pythonPackages = []string{"python3", "python3-pip", "python3-venv"}

func makeBase(ctx context.Context, w *workshop, layout string) error {
	debianTar := filepath.Join(w.scratch, "debian.tar")
	pythonTar := filepath.Join(w.scratch, "python.tar")
	roots, rootsCtx := errgroup.WithContext(ctx)
	roots.Go(func() error {
		return makeRoot(rootsCtx, w, debianTar, debianPackages, "debian-after.sh")
	})
	roots.Go(func() error {
		return makeRoot(rootsCtx, w, pythonTar, append(debianPackages, pythonPackages...), "debian-after.sh", "python-after.sh")
	})
	if err := roots.Wait(); err != nil {
		return err
	}
	pythonLayer := filepath.Join(w.scratch, "python-layer.tar")
	if err := diffTars(debianTar, pythonTar, pythonLayer); err != nil {
		return fmt.Errorf("make the python layer: %w", err)
	}
	return writeLayout(layout, []image{
		{
			names:  []string{"debian:12", "debian:12-slim", "debian:bookworm", "debian:bookworm-slim"},
			layers: []string{debianTar},
			env:    []string{pathEnv},
			cmd:    []string{"bash"},
		},
		{
			names: []string{
				"python:3", "python:3-slim", "python:3-bookworm", "python:3-slim-bookworm",
				"python:3.11", "python:3.11-slim", "python:3.11-bookworm", "python:3.11-slim-bookworm",
			},
			layers: []string{debianTar, pythonLayer},
			env:    []string{pathEnv, "LANG=C.UTF-8"},
			cmd:    []string{"python3"},
		},
	})
}

const pathEnv = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// makeRoot installs packages into a new root and writes it to a tar file.
func makeRoot(ctx context.Context, w *workshop, tarFile string, packages []string, afterScripts ...string) error {
	args := []string{
		"--variant=apt", "--include=" + strings.Join(packages, ","),
		// a container's /dev is the runtime's; policy-rc.d is made by debian-before.sh, and stays
		"--skip=output/dev", "--skip=chroot/policy-rc.d",
		"--dpkgopt=force-unsafe-io", // no fsync per file, here and in builds on top of the image
		// documentation and translations, as in the slim images
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright",
	}
	mode := "--mode=unshare"
	if os.Getuid() == 0 {
		mode = "--mode=root" // needs no subordinate uids
	}
	before, err := hook("--setup-hook", "debian-before.sh")
	if err != nil {
		return err
	}
	args = append(args, mode, before)
	for _, script := range afterScripts {
		after, err := hook("--customize-hook", script)
		if err != nil {
			return err
		}
		args = append(args, after)
	}
	args = append(args, debianRelease, "-", "-")
	out, err := os.Create(tarFile)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := w.command(ctx, "mmdebstrap", args...)
	cmd.Stdin = bytes.NewBufferString(strings.Join(debianSources(""), "\n") + "\n")
	cmd.Stdout = out
	return w.run(cmd)
}

// hook passes a script by its text, because the subordinate uid that runs it may not be able to
// read the user's folders.
func hook(option, script string) (string, error) {
	text, err := fs.ReadFile(sources, script)
	return option + "=" + string(text), err
}
