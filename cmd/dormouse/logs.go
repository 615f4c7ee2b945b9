package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func logsCommand() *cobra.Command {
	var build string
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs --build ID",
		Short: "Print the log of an image build",
		Long:  "Print the log of an image build: what BuildKit said, what the app wrote, and how it ended.",
		Example: `  dormouse logs --build 6f0c8a52-4e0b-4a55-9c0e-3f7a0d9f2b11
  dormouse logs --build 6f0c8a52-4e0b-4a55-9c0e-3f7a0d9f2b11 --follow`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return printBuildLog(cmd, build, follow) },
	}
	cmd.Flags().StringVar(&build, "build", "", "id of the build (get-microvm-image-build shows it)")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the build has ended")
	_ = cmd.MarkFlagRequired("build")
	return cmd
}

func printBuildLog(cmd *cobra.Command, build string, follow bool) error {
	if _, err := uuid.Parse(build); err != nil {
		return fmt.Errorf("%q is not a build id: list-microvm-image-builds shows them", build)
	}
	dir, err := dataDir(cmd)
	if err != nil {
		return err
	}
	log, err := os.Open(filepath.Join(dir, buildLogs, build+".log"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no log of build %s in %s: is --data-dir the daemon's?", build, dir)
	}
	if err != nil {
		return err
	}
	defer log.Close()
	if !follow {
		_, err = io.Copy(cmd.OutOrStdout(), log)
		return err
	}
	return followLog(cmd, dir, build, log)
}

// followLog copies what is appended until the build has ended.
func followLog(cmd *cobra.Command, dir, build string, log io.Reader) error {
	ctx := cmd.Context()
	records, err := openRecords(ctx, dir)
	if err != nil {
		return err
	}
	defer records.Close()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ended, err := buildEnded(ctx, records, build)
		if err != nil {
			return err
		}
		if _, err := io.Copy(cmd.OutOrStdout(), log); err != nil || ended {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func buildEnded(ctx context.Context, records *store.Store, id string) (bool, error) {
	b, err := records.Build(ctx, id)
	if err != nil {
		return false, err
	}
	return b.State == store.BuildSuccessful || b.State == store.BuildFailed, nil
}
