package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnAppReachesNothingOnItsHost(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil) // with INTERNET_EGRESS, the default

	listener, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	addresses := []string{
		"10.0.2.2:" + port, // its gateway
		"169.254.169.254:" + port,
	}
	interfaces, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, address := range interfaces {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil {
			addresses = append(addresses, net.JoinHostPort(network.IP.String(), port))
		}
	}
	addresses = append(addresses, "127.0.0.1:8080") // itself: the question works
	question, err := json.Marshal(addresses)
	require.NoError(t, err)
	var reached []string
	decode(t, v.ask(http.MethodPost, "/dial", string(question)), &reached)
	require.Equal(t, []string{"127.0.0.1:8080"}, reached)
}

func TestAnAppHasTheCapabilitiesOfAContainer(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	var status map[string]string
	v.read("/status", &status)
	require.Equal(t, "00000000a80425fb", status["CapEff"]) // spec/behaviour.md 11
	require.Equal(t, "1", status["Pid"])
}
