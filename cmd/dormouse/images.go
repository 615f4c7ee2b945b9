package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/image"
	"github.com/dormouse-dev/dormouse/internal/image/buildkit"
	"github.com/dormouse-dev/dormouse/internal/image/mirror"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/objectstore"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// openImages wires the image manager to builders, base images and artifacts.
func openImages(o serveOptions, in installation, records *store.Store, objects *objectstore.Client, manager *microvm.Manager, clock clockwork.Clock, log *slog.Logger) (*image.Manager, *microvm.Builders, error) {
	upstream := mirror.Offline()
	if !o.offline {
		var err error
		if upstream, err = mirror.DefaultUpstream(clock); err != nil {
			return nil, nil, err
		}
	}
	local, err := mirror.New(in.assets.Base, upstream)
	if err != nil {
		return nil, nil, err
	}
	builders := microvm.NewBuilders(manager, microvm.BuilderConfig{
		Rootfs: in.assets.Builder.Rootfs, App: in.assets.Builder.Boot, Digest: in.assets.Builder.Digest,
		// Beside the assets, because all data folders can use it.
		Snapshots: filepath.Join(in.assets.Dir, "builder-snapshots"),
		Mirror:    local,
		WarmUp:    warmUp(in.assets.Base), WarmUpKey: warmUpDockerfile + in.assets.BaseDigest,
		Log: io.Discard,
	})
	images := image.New(image.Config{
		Dir: o.dataDir, Records: records, Objects: objects, VMs: manager, Bases: local, Clock: clock, Log: log,
		StartBuilder: func(ctx context.Context, egress []string) (image.Builder, error) { return builders.Start(ctx, egress) },
	})
	return images, builders, nil
}

// warmUpDockerfile has the builder pull and unpack the local bases and run a container once
// before its snapshot is taken; builds find all that in memory.
const warmUpDockerfile = "FROM python:3-slim\nRUN true\nFROM debian:12\nRUN true\nCOPY --from=0 /etc/hostname /tmp/warm-up\n"

func warmUp(bases string) func(context.Context, func(context.Context) (net.Conn, error)) error {
	return func(ctx context.Context, dial func(context.Context) (net.Conn, error)) error {
		dir, err := os.MkdirTemp("", "dormouse-warm-up-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		source := filepath.Join(dir, "context")
		if err := os.Mkdir(source, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(source, "Dockerfile"), []byte(warmUpDockerfile), 0o600); err != nil {
			return err
		}
		return buildkit.Run(ctx, dial, buildkit.Build{
			Context: source, Out: filepath.Join(dir, "layout"), Bases: bases, MaxBytes: 1 << 30, Log: io.Discard,
		})
	}
}
