package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/test/e2e/daemon"
)

func TestTrafficBeyondTheLimitsOfAMicroVMIsRefusedOrSlowed(t *testing.T) {
	t.Parallel()
	h := ownHost(t, func(d *daemon.Daemon) {
		d.Flags = append(d.Flags, "--vm-limits", "requests=4,connections=2,bandwidth-mb=1")
	})
	image := h.build(t, zipFolder(t, workbenchFolder), object{"hooks": allHooks})
	takeRoom(t, 2)
	v, other := h.runUntilRunning(t, image.arn, nil), h.runUntilRunning(t, image.arn, nil)

	one := v.keptAlive()
	limited := 0
	for range 20 { // far more than four a second, even here
		switch got := one.send(http.MethodGet, "/environment", "", "X-aws-proxy-auth", v.token); got.StatusCode {
		case http.StatusOK:
		case http.StatusTooManyRequests:
			require.Equal(t, "REQUEST_RATE_EXCEEDED", got.Header.Get("X-Aws-Proxy-Error"))
			require.NotEmpty(t, got.Header.Get("Retry-After"))
			limited++
		default:
			require.Fail(t, got.Status)
		}
	}
	require.Positive(t, limited)
	other.ask(http.MethodGet, "/environment", "") // its neighbour has limits of its own

	time.Sleep(2 * time.Second) // for the rate to allow requests again
	began := time.Now()
	body := strings.Repeat("x", 2_000_000)
	require.Equal(t, body, one.ask(http.MethodPost, "/echo", body))
	require.Greater(t, time.Since(began), 3*time.Second, "four megabytes, both directions together, at one a second")
}
