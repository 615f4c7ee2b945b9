package e2e

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// byName is the VM at the endpoint it has now, with a client that finds names below .localhost here,
// as browsers and curl do by themselves.
func (v *microVM) byName() *microVM {
	other := *v
	other.at = v.get().Endpoint
	transport := v.http.Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(address); err == nil && strings.HasSuffix(host, ".localhost") {
			address = net.JoinHostPort("127.0.0.1", port)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	other.http = &http.Client{Timeout: httpLimit, Transport: transport}
	return &other
}

// changesMode has microVMs live through a change to mode domain and back.
func changesMode(t *testing.T, h *host, image string) {
	before := h.runUntilRunning(t, image, object{"idlePolicy": wakesOnTraffic})
	address, _, err := net.SplitHostPort(before.at)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(address, "127."), address)
	nonce := before.makeNonce()

	require.NoError(t, h.Stop())
	require.NoError(t, h.Start("env", "DORMOUSE_ENDPOINT_MODE=domain"))
	named := before.byName()
	host, port, err := net.SplitHostPort(named.at)
	require.NoError(t, err)
	id, found := strings.CutSuffix(host, ".localhost")
	require.True(t, found, host)
	require.NoError(t, uuid.Validate(id))
	require.Equal(t, nonce, named.count().Nonce, "a request to its name wakes it")
	require.Equal(t, nonce, named.overNames(t, host), "also over HTTP/2")
	_, err = before.try(http.MethodGet, "/", "", "X-aws-proxy-auth", before.token)
	require.ErrorContains(t, err, "connection refused", "its address is not open")

	stranger := *named
	stranger.at = uuid.NewString() + ".localhost:" + port
	requireRefusal(t, stranger.send(http.MethodGet, "/", "", "X-aws-proxy-auth", named.token), http.StatusForbidden, "AUTH_FAILED", "Token authentication failed")

	after := h.runUntilRunning(t, image, object{"idlePolicy": wakesOnTraffic}).byName()
	other := after.makeNonce()
	require.NoError(t, h.Stop())
	require.NoError(t, h.Start())
	require.Equal(t, nonce, before.count().Nonce, "its address is open again")
	require.Equal(t, after.at, after.get().Endpoint, "it never had one")
	require.Equal(t, other, after.count().Nonce, "so its name goes on to work")
}

// overNames asks over HTTP/2 and returns the app's nonce.
func (v *microVM) overNames(t *testing.T, host string) string {
	t.Helper()
	other := *v
	transport := v.http.Transport.(*http.Transport).Clone()
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP2(true)
	other.http = &http.Client{Timeout: httpLimit, Transport: transport}
	got := other.send(http.MethodGet, "/", "", "X-aws-proxy-auth", v.token)
	require.Equal(t, 2, got.ProtoMajor)
	require.Contains(t, got.Request.Host, host)
	var c counted
	decode(t, got.body, &c)
	return c.Nonce
}
