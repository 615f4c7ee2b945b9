// Command make-assets makes what Dormouse needs on this machine (guest kernel, agent, base images, builder); `make setup` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/dormouse-dev/dormouse/internal/assets"
)

func main() {
	dir := flag.String("dir", assets.DefaultDir(), "asset `folder`")
	done := flag.Int("done", 0, "`number` of steps that were done before, for the progress lines")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := makeAll(ctx, *dir, *done); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

// makeAll makes the assets in the order of their dependencies, each only if it is missing or out of date.
func makeAll(ctx context.Context, dir string, done int) error {
	w, err := openWorkshop(dir)
	if err != nil {
		return err
	}
	defer w.close()

	recipes := []recipe{
		kernelRecipe(w),
		agentRecipe(w),
		buildkitdRecipe(w),
		runcRecipe(w),
		initramfsRecipe(w),
		baseRecipe(w),
		builderRecipe(w),
	}
	for i, r := range recipes {
		line := progress{number: done + i + 1, of: done + len(recipes), out: os.Stdout}
		if err := line.report(r.asset, func() (bool, error) { return w.bring(ctx, r) }); err != nil {
			return err
		}
	}
	if _, err = assets.Open(dir); err != nil {
		return err
	}
	fmt.Printf("Ready: %s holds %.1f GB. Next: make build, then bin/dormouse up\n", dir, float64(diskUsage(dir))/1e9)
	return nil
}

// diskUsage is how many bytes the files below a folder take on the disk, holes left out. What cannot be
// read does not count.
func diskUsage(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it is a figure to look at
		}
		if info, err := entry.Info(); err == nil {
			if stat, is := info.Sys().(*syscall.Stat_t); is {
				bytes += stat.Blocks * 512
			}
		}
		return nil
	})
	return bytes
}
