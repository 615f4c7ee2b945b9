package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxWarmUp bounds what a warm-up build exports, in bytes. Base images themselves do not count.
const maxWarmUp = 1 << 30

// WarmUp runs one small build from each base image, to the end, before a builder's snapshot is
// taken: the base is then unpacked in every builder, and the code that builds need is in memory.
// A base that cannot be built from is noted in log and skipped.
func WarmUp(ctx context.Context, dial Dial, names []string, bases string, log io.Writer) error {
	for _, name := range names {
		err := warmUp(ctx, dial, name, bases, log)
		if errors.Is(err, ErrDockerfile) {
			fmt.Fprintf(log, "Skipped %s: %v\n", name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("warm up with %s: %w", name, err)
		}
	}
	return nil
}

func warmUp(ctx context.Context, dial Dial, name, bases string, log io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "dormouse-warm-up-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := Build{
		Context: filepath.Join(dir, "context"), Out: filepath.Join(dir, "layout"), Bases: bases,
		MaxBytes: maxWarmUp, Log: log, Exporting: func() {},
	}
	if err := os.Mkdir(b.Context, 0o700); err != nil {
		return err
	}
	text := "FROM " + name + "\nCOPY Dockerfile /tmp/warm-up\nRUN rm /tmp/warm-up\n"
	if err := os.WriteFile(filepath.Join(b.Context, dockerfile), []byte(text), 0o600); err != nil {
		return err
	}
	return Run(ctx, dial, b)
}
