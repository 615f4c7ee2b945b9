package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/objectstore"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func prepareCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "prepare",
		Short: "Make the snapshot that builds start from, ahead of the first build",
		Long: `Boot the builder, have it unpack the local base images, and take the snapshot that every image
build starts from. ` + "`make setup`" + ` does this once; the daemon does it by itself where it is missing.`,
		Example: "  dormouse prepare",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			began := time.Now()
			made, err := prepare(cmd.Context(), o)
			if err == nil && made {
				fmt.Fprintf(cmd.OutOrStdout(), "builder snapshot made in %.0f s\n", time.Since(began).Seconds())
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.assets, "assets", assets.DefaultDir(), "folder that make setup filled")
	portableDefault(f, "assets", "~/.cache/dormouse")
	f.StringVar(&o.accelerator, "accelerator", "auto", "how guests run: auto, kvm or tcg")
	f.StringVar(&o.kernel, "kernel", "", "guest kernel, instead of the one set-up unpacked")
	f.BoolVar(&o.offline, "offline", false, "use the local base images even where a registry is reachable")
	return cmd
}

// prepare makes the builder's snapshot with a manager of its own, and tells whether it was missing.
func prepare(ctx context.Context, o serveOptions) (made bool, err error) {
	log, clock := slog.New(slog.DiscardHandler), clockwork.NewRealClock()
	in, err := install(ctx, o, log)
	if err != nil {
		return false, err
	}
	if o.dataDir, err = os.MkdirTemp("", "dormouse-prepare-"); err != nil {
		return false, err
	}
	defer os.RemoveAll(o.dataDir)
	records, err := store.Open(ctx, filepath.Join(o.dataDir, databaseFile), store.Quotas{})
	if err != nil {
		return false, err
	}
	defer records.Close()
	manager, err := microvm.New(microvm.Config{
		Dir: o.dataDir, Records: records, Driver: in.driver, Present: in.present, Boot: in.boot,
		NextAddr: endpoint.NextAddr, Network: in.network, Clock: clock, Log: log, Warm: warmth(0),
	})
	if err != nil {
		return false, err
	}
	_, builders, err := openImages(o, in, nil, records, &objectstore.Client{}, manager, nil, clock, log)
	if err != nil {
		return false, err
	}
	made = !builders.Prepared()
	_, err = builders.Prepare(ctx)
	return made, err
}
