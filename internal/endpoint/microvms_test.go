package endpoint

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/arn"
)

func TestWhichConnectorsOpenTheEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		connectors []string
		open       bool
	}{
		"none":                {nil, false},
		"HTTP":                {[]string{"HTTP_INGRESS"}, true},
		"all":                 {[]string{"ALL_INGRESS"}, true},
		"no":                  {[]string{"NO_INGRESS"}, false},
		"shell":               {[]string{"SHELL_INGRESS"}, false},
		"shell and HTTP":      {[]string{"SHELL_INGRESS", "HTTP_INGRESS"}, true},
		"shell and all":       {[]string{"SHELL_INGRESS", "ALL_INGRESS"}, true},
		"HTTP and no":         {[]string{"HTTP_INGRESS", "NO_INGRESS"}, false},
		"no and all":          {[]string{"NO_INGRESS", "ALL_INGRESS"}, false},
		"one of another name": {[]string{"MY_HTTP_INGRESS"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var arns []string
			for _, connector := range c.connectors {
				arns = append(arns, arn.ManagedConnector("us-east-1", connector).String())
			}
			require.Equal(t, c.open, acceptsHTTP(arns))
		})
	}
	require.Zero(t, testing.AllocsPerRun(10, func() {
		acceptsHTTP([]string{"arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS"})
	}), "it is asked for every request")
}
