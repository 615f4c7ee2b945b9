package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEachHookIsCalledWhenItIsDue(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	payload := `{"greeting": "a string, even if it is JSON"}`
	v := h.runUntilRunning(t, image.arn, object{"runHookPayload": payload})

	var called map[string]int
	v.read("/hooks", &called)
	require.GreaterOrEqual(t, called["ready"], 1, "until it answers 200")
	delete(called, "ready")
	// What validate did was done in a VM that was thrown away.
	require.Equal(t, map[string]int{"validate": 0, "run": 1, "resume": 0, "suspend": 0, "terminate": 0}, called)
	var told struct{ MicrovmID, RunHookPayload string }
	v.read("/identity", &told)
	require.Equal(t, v.id, told.MicrovmID)
	require.Equal(t, payload, told.RunHookPayload)

	for range 2 {
		v.suspend()
		v.call("ResumeMicrovm")
		v.await("RUNNING")
	}
	called = nil
	v.read("/hooks", &called)
	delete(called, "ready")
	require.Equal(t, map[string]int{"validate": 0, "run": 1, "resume": 2, "suspend": 2, "terminate": 0}, called)
}

func TestTheTerminateHookIsCalledBeforeTheEnd(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)

	stream := v.open(http.MethodGet, "/hook-stream", nil)
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	names := map[string]int{}
	for names["run"] == 0 && lines.Scan() {
		names[lines.Text()]++
	}
	v.call("TerminateMicrovm")
	for lines.Scan() {
		names[lines.Text()]++
	}
	require.Equal(t, map[string]int{"ready": 1, "run": 1, "terminate": 1}, names)
	require.Equal(t, "Success.", v.await("TERMINATED").StateReason)
}

func TestARunHookThatRefusesEndsTheMicroVM(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.run(t, image.arn, object{"runHookPayload": "refuse"})
	require.Equal(t, hookReason("Run", 500), v.await("TERMINATED").StateReason)
	require.Zero(t, v.vmm())
}

func TestASuspendHookThatRefusesEndsTheMicroVM(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	v.ask(http.MethodPost, "/refuse-suspend", "")
	v.call("SuspendMicrovm")
	require.Equal(t, hookReason("Suspend", 500), v.await("TERMINATED").StateReason)
	require.Zero(t, v.vmm())
}

// hookReason is the stateReason after a hook has failed (spec/behaviour.md 2.1).
func hookReason(hook string, status int) string {
	return fmt.Sprintf("%s lifecycle hook returned HTTP status %d. Please check your hook endpoint and application logs for more details.", hook, status)
}

func TestAnAppThatExitsEndsItsMicroVM(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	v.ask(http.MethodPost, "/exit", "7")
	require.Equal(t, "Container Stopped with Exit Code: 7", v.await("TERMINATED").StateReason)
}
