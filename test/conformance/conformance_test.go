package conformance

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain runs the clients only when asked to (DORMOUSE_CONFORMANCE=1), because they take minutes and
// need what `make setup` makes. The other variables are those of test/e2e.
func TestMain(m *testing.M) {
	if os.Getenv("DORMOUSE_CONFORMANCE") != "1" {
		fmt.Fprintln(os.Stderr, "conformance of AWS clients not checked: set DORMOUSE_CONFORMANCE=1")
		if err := flag.Set("test.skip", "^TestAWSClients"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// TestAWSClientsSeeWhatTheyExpect has a subtest for each client that could be had and each of its
// steps. A client that could not be had has none, so that nothing passes that did not run.
func TestAWSClientsSeeWhatTheyExpect(t *testing.T) {
	results, err := Run(t.Context(), "../..", os.Getenv("DORMOUSE_DATA_DIR"), "", t.Output())
	require.NoError(t, err)
	ran := 0
	for _, r := range results {
		if r.NotRun != "" {
			t.Logf("%s not run: %s", r.Name, r.NotRun)
			continue
		}
		ran++
		t.Run(r.Name, func(t *testing.T) {
			for _, s := range r.Steps {
				if s.Outcome == Passed || s.Outcome == Failed {
					t.Run(s.Operation+"/"+s.Promise, func(t *testing.T) { require.Equal(t, Passed, s.Outcome, s.Reason) })
				}
			}
			require.False(t, r.Broken(), "%d steps not run because of those that failed", r.Count(NotRun))
		})
	}
	require.Positive(t, ran, "no client could be had")
}
