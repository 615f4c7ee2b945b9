package microvm

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/netstack"
)

func TestABuilderThatReachesNothingGetsTheLocalBaseImages(t *testing.T) {
	says := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	b := NewBuilders(&Manager{}, BuilderConfig{Mirror: says("mirror"), Local: says("local")})
	for want, policy := range map[string]netstack.Policy{
		"local": {}, "mirror": {Networks: []*netstack.Network{{Name: "office"}}},
	} {
		host, guest := net.Pipe()
		go b.network(policy).Services[mirrorAddr](host)
		client := &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return guest, nil }, DisableKeepAlives: true,
		}}
		response, err := client.Get("http://mirror/v2/")
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		response.Body.Close()
		require.Equal(t, want, string(text))
	}
}
