package main

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/dormouse-dev/dormouse/internal/assets"
)

// kernelRecipe unpacks the distribution's kernel for virtual machines. A newer package in the
// archive does not make it anew, because image snapshots only restore with the kernel they were made
// with; to update the kernel, remove its folder.
func kernelRecipe(w *workshop) recipe {
	return recipe{
		asset: assets.KernelAsset,
		inputs: func(context.Context) (map[string]string, error) {
			return recipeInputs("kernel.go", "archive.go")
		},
		make: func(ctx context.Context, dir string, m *assets.Manifest) error {
			deb, err := w.archive.fetchDependency(ctx, "linux-image-cloud-"+runtime.GOARCH)
			if err != nil {
				return err
			}
			m.Version, err = unpackKernel(ctx, &w.archive, deb, dir)
			return err
		},
		fix: networkFix,
	}
}

// unpackKernel takes the image and the modules out of a kernel package and returns the kernel's release.
func unpackKernel(ctx context.Context, a *archive, deb, dir string) (release string, err error) {
	const imagePrefix, modulePrefix = "boot/vmlinuz-", "lib/modules/"
	err = a.walkDeb(ctx, deb, func(header *tar.Header, content io.Reader) error {
		name := strings.TrimPrefix(header.Name, "usr/") // later releases have usr/lib/modules
		switch {
		case header.Typeflag != tar.TypeReg:
			return nil
		case strings.HasPrefix(name, imagePrefix):
			release = strings.TrimPrefix(name, imagePrefix)
			return writeFile(filepath.Join(dir, assets.KernelImage), 0o644, content)
		case strings.HasPrefix(name, modulePrefix):
			_, rel, _ := strings.Cut(strings.TrimPrefix(name, modulePrefix), "/")
			return writeFile(filepath.Join(dir, assets.KernelModules, filepath.FromSlash(rel)), 0o644, content)
		}
		return nil
	})
	if err == nil && release == "" {
		err = errors.New("the kernel package has no kernel image")
	}
	return release, err
}

// writeFile writes a new file and the folders above it.
func writeFile(path string, mode os.FileMode, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
