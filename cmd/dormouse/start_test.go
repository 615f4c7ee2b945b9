package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every verb pays for the initialization of all packages that are linked in, the daemon's too. What that
// allocates does not depend on the machine, so it is what is bounded here, in bytes; at the time of writing
// it is 4.5 MB for all (0.7 MB of it the schemas of CloudWatch Logs) and 1.4 MB for this module, 1 MB of which is a buffer of zeros.
const (
	maxInitBytes    = 6 << 20
	maxOwnInitBytes = 3 << 19
)

func TestAVerbStartsFast(t *testing.T) {
	self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	self.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace strings.Builder
	self.Stderr = &trace
	require.NoError(t, self.Run())
	all, own := 0, 0
	for line := range strings.Lines(trace.String()) {
		var name string
		var at, clock float64
		var bytes int
		if _, err := fmt.Sscanf(line, "init %s @%f ms, %f ms clock, %d bytes", &name, &at, &clock, &bytes); err != nil {
			continue
		}
		all += bytes
		if strings.HasPrefix(name, "github.com/dormouse-dev/") || name == "main" {
			own += bytes
		}
		require.LessOrEqual(t, bytes, initFactor<<20, "the initialization of %s; do such work when it is first needed (sync.OnceValue)", name)
	}
	require.Positive(t, own, "no trace: %s", trace.String())
	t.Logf("initialization allocates %d bytes, %d of them in this module", all, own)
	require.Less(t, all, initFactor*maxInitBytes)
	require.Less(t, own, initFactor*maxOwnInitBytes)
}
