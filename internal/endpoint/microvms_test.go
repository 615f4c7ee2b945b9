package endpoint

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/arn"
)

func TestWhichConnectorsOpenTheEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		connectors []string
		http       bool
		shell      bool
	}{
		"none":                {nil, false, false},
		"HTTP":                {[]string{"HTTP_INGRESS"}, true, false},
		"all":                 {[]string{"ALL_INGRESS"}, true, false},
		"no":                  {[]string{"NO_INGRESS"}, false, false},
		"shell":               {[]string{"SHELL_INGRESS"}, false, true},
		"shell and HTTP":      {[]string{"SHELL_INGRESS", "HTTP_INGRESS"}, true, true},
		"shell and all":       {[]string{"SHELL_INGRESS", "ALL_INGRESS"}, true, true},
		"HTTP and no":         {[]string{"HTTP_INGRESS", "NO_INGRESS"}, false, false},
		"no and all":          {[]string{"NO_INGRESS", "ALL_INGRESS"}, false, false},
		"shell and no":        {[]string{"SHELL_INGRESS", "NO_INGRESS"}, false, false},
		"one of another name": {[]string{"MY_HTTP_INGRESS"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var arns []string
			for _, connector := range c.connectors {
				arns = append(arns, arn.ManagedConnector("us-east-1", connector).String())
			}
			require.Equal(t, c.http, acceptsHTTP(arns))
			require.Equal(t, c.shell, acceptsShell(arns))
		})
	}
	require.Zero(t, testing.AllocsPerRun(10, func() {
		acceptsHTTP([]string{"arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS"})
	}), "it is asked for every request")
}
