package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain runs the tests only when asked to, because they take minutes and need what `make setup`
// makes. Otherwise it says so and no test counts as passed. The environment:
//
//	DORMOUSE_E2E=1      runs them
//	DORMOUSE_BIN        the daemon, if not bin/dormouse
//	DORMOUSE_ASSETS     what `make setup` made, if not in its usual place
//	DORMOUSE_DATA_DIR   where data folders are made, if not in the system's temporary folder
func TestMain(m *testing.M) {
	if os.Getenv("DORMOUSE_E2E") != "1" {
		fmt.Fprintln(os.Stderr, "end-to-end tests not run: set DORMOUSE_E2E=1")
		os.Exit(0)
	}
	// Most tests wait for VMs rather than compute; how many VMs run at once is bounded elsewhere.
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	status := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: the daemon that tests share did not end well:", err)
		status = 1
	}
	os.Exit(status)
}
