package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// verbRuns is how often the verb is run.
const verbRuns = 30

// measureVerb returns the user time of one verb of the command line, from its start to its end: more than it
// takes until its first byte goes out, and measured by the kernel.
func (b *bench) measureVerb(ctx context.Context) (took []time.Duration, err error) {
	for range verbRuns {
		verb := exec.CommandContext(ctx, b.options.binary, "ps", "--data-dir", b.daemon.dataDir)
		if out, err := verb.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("dormouse ps: %w: %s", err, out)
		}
		took = append(took, verb.ProcessState.UserTime())
	}
	return took, nil
}
