// Command make-assets makes what Dormouse needs on this machine (guest kernel, agent, base images, builder); `make setup` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
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
	_, err = assets.Open(dir)
	return err
}
