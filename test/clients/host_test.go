package clients

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/test/e2e/daemon"
)

const (
	image = "page"
	// limit bounds what takes longest, a build, on a slow machine under load.
	limit = 10 * time.Minute
)

// host is a daemon that is used through its command line.
type host struct {
	*daemon.Daemon
	t *testing.T
}

// command runs dormouse and returns what it prints.
func (h host) command(args ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	out, err := h.Command(ctx, args...)
	require.NoError(h.t, err)
	return strings.TrimSpace(string(out))
}

// start starts the daemon in a mode. What it finds in its data folder it takes over.
func (h host) start(mode string) {
	h.t.Helper()
	require.NoError(h.t, h.Start("env", "DORMOUSE_ENDPOINT_MODE="+mode))
}

// vm is what a client is told of a microVM.
type vm struct {
	Mode     string `json:"mode"`
	Host     string `json:"host"` // with the port
	Hostname string `json:"hostname"`
	CA       string `json:"ca"`     // file
	Token    string `json:"token"`  // opens all ports
	Narrow   string `json:"narrow"` // opens port 8080
	Other    string `json:"other"`  // another microVM's
	id       string
}

// state is what GetMicrovm answers, of which tests need this.
type state struct{ State, Endpoint string }

// look asks what a microVM is doing, and where.
func (h host) look(id string) state {
	h.t.Helper()
	var view struct{ MicroVM state }
	require.NoError(h.t, json.Unmarshal([]byte(h.command("inspect", id, "--output", "json")), &view))
	return view.MicroVM
}

// describe asks where a microVM is in the present mode, and makes tokens.
func (h host) describe(mode, id, other string) vm {
	h.t.Helper()
	endpoint := h.look(id).Endpoint
	hostname, _, err := net.SplitHostPort(endpoint)
	require.NoError(h.t, err)
	return vm{
		Mode: mode, Host: endpoint, Hostname: hostname, CA: filepath.Join(h.Dir, "ca.pem"), id: id,
		Token: h.command("token", id, "--port", "all"), Narrow: h.command("token", id, "--port", "8080"), Other: h.command("token", other, "--port", "all"),
	}
}

// sleep suspends a microVM that does not sleep yet.
func (h host) sleep(id string) {
	h.t.Helper()
	if h.look(id).State != "SUSPENDED" {
		h.command("suspend", id)
	}
}
