package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/image"
	"github.com/dormouse-dev/dormouse/internal/image/buildkit"
	"github.com/dormouse-dev/dormouse/internal/image/mirror"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/objectstore"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// openImages wires the image manager to builders, base images, artifacts and the credentials of build roles.
func openImages(o serveOptions, in installation, watch *watch, records *store.Store, objects *objectstore.Client, manager *microvm.Manager, credentials func(microvm.Identity) aws.CredentialsProvider, clock clockwork.Clock, log *slog.Logger) (*image.Manager, *microvm.Builders, error) {
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
		Mirror:    local, Local: local.Local(),
		WarmUp: warmUp(in.assets.Base), WarmUpKey: fmt.Sprint(warmUpBases, in.assets.BaseDigest),
		Log: io.Discard,
	})
	images := image.New(image.Config{
		Dir: o.dataDir, Records: watch.records(records), LogEnded: watch.buildEnded, Objects: objects, VMs: manager, Bases: local, Clock: clock, Log: log,
		StartBuilder: func(ctx context.Context, egress []string, note func(string)) (image.Builder, error) {
			return builders.Start(ctx, egress, note)
		},
		Credentials: credentials,
	})
	return images, builders, nil
}

// warmUpBases are unpacked in the builder before its snapshot is taken, and a container of each
// has run there; set-up makes more names for the same images.
var warmUpBases = []string{"python:3-slim", "debian:12"}

func warmUp(bases string) func(context.Context, func(context.Context) (net.Conn, error)) error {
	return func(ctx context.Context, dial func(context.Context) (net.Conn, error)) error {
		return buildkit.WarmUp(ctx, dial, warmUpBases, bases, io.Discard)
	}
}
