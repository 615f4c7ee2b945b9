package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// requireRefusal checks an answer of the proxy's own.
func requireRefusal(t *testing.T, got answer, status int, code, body string) {
	t.Helper()
	require.Equal(t, status, got.StatusCode, got.body)
	require.Equal(t, code, got.Header.Get("X-Aws-Proxy-Error"))
	require.Equal(t, body, got.body)
	require.NotEmpty(t, got.Header.Get("X-Amzn-Requestid"))
}

func TestBadTokensAreRefusedAndWakeNobody(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 2)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})
	foreign := h.run(t, image.arn, nil).token
	v.suspend()

	segments := strings.Split(v.token, ".")
	require.Len(t, segments, 5, "a compact JWE")
	require.Empty(t, segments[1], "no encrypted key")
	ciphertext := segments[3]
	flipped := "A"
	if ciphertext[0] == 'A' {
		flipped = "B"
	}
	forged := strings.Join([]string{segments[0], "", segments[2], flipped + ciphertext[1:], segments[4]}, ".")

	for name, c := range map[string]struct {
		headers []string
		code    string
		body    string
	}{
		"missing":      {nil, "AUTH_MISSING", "Request missing authentication"},
		"not a token":  {[]string{"X-aws-proxy-auth", "open sesame"}, "AUTH_MISSING", "Request missing authentication"},
		"half a token": {[]string{"X-aws-proxy-auth", strings.Join(segments[:3], ".")}, "AUTH_MISSING", "Request missing authentication"},
		"cut short":    {[]string{"X-aws-proxy-auth", v.token[:len(v.token)-4]}, "AUTH_FAILED", "Token authentication failed"},
		"forged":       {[]string{"X-aws-proxy-auth", forged}, "AUTH_FAILED", "Token authentication failed"},
		"alg none":     {[]string{"X-aws-proxy-auth", strings.Replace(v.token, segments[0], withoutAlgorithm(t, segments[0]), 1)}, "AUTH_FAILED", "Token authentication failed"},
		"six segments": {[]string{"X-aws-proxy-auth", v.token + ".AAAA"}, "AUTH_MISSING", "Request missing authentication"},
		"foreign":      {[]string{"X-aws-proxy-auth", foreign}, "AUTH_FAILED", "Token authentication failed"},
		"other port": {
			[]string{"X-aws-proxy-auth", v.mint(object{"port": 8081}, object{"range": object{"startPort": 9000, "endPort": 9001}})},
			"PORT_DENIED", "Access to port denied",
		},
	} {
		t.Run(name, func(t *testing.T) {
			requireRefusal(t, v.in(t).send(http.MethodGet, "/", "", c.headers...), http.StatusForbidden, c.code, c.body)
		})
	}
	require.Equal(t, "SUSPENDED", v.get().State)
	require.Empty(t, v.events("resume"))
	require.Zero(t, v.vmm())
}

// withoutAlgorithm is a token's header that says that its content is not encrypted.
func withoutAlgorithm(t *testing.T, header string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(header)
	require.NoError(t, err)
	require.Contains(t, string(text), `"dir"`)
	return base64.RawURLEncoding.EncodeToString(bytes.Replace(text, []byte(`"dir"`), []byte(`"none"`), 1))
}

func TestAPortIsReachedIfTheTokenCoversItAndSomethingListens(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	some := v.mint(object{"port": 8080}, object{"range": object{"startPort": 7000, "endPort": 9000}})
	to := func(port string) answer {
		return v.send(http.MethodGet, "/time", "", "X-aws-proxy-auth", some, "X-aws-proxy-port", port)
	}
	require.Equal(t, http.StatusOK, to("8080").StatusCode)
	require.Equal(t, http.StatusNotFound, to("9000").StatusCode, "the hook server has no such path")
	requireRefusal(t, to("7001"), http.StatusBadGateway, "APP_CONNECT_FAILED", "")
	requireRefusal(t, to("9001"), http.StatusForbidden, "PORT_DENIED", "Access to port denied")
	requireRefusal(t, to("http"), http.StatusBadRequest, "BAD_REQUEST", "Bad request")
}

func TestARequestWaitsForALaunch(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.run(t, image.arn, nil)
	require.Equal(t, 1, v.count().Counter) // not refused, although it was PENDING
}

func TestRequestsWaitForOneWake(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})
	nonce := v.makeNonce()
	v.suspend()

	const requests = 30
	failures := make(chan error, requests)
	for range requests {
		go func() {
			got, err := v.try(http.MethodGet, "/", "", "X-aws-proxy-auth", v.token)
			if err == nil && (got.StatusCode != http.StatusOK || !strings.Contains(got.body, nonce)) {
				err = fmt.Errorf("%s %s", got.Status, got.body)
			}
			failures <- err
		}()
	}
	for range requests {
		require.NoError(t, <-failures)
	}
	require.Equal(t, requests+1, v.count().Counter, "each request reached the app once")
	v.requireEvents("resume", 1)
}

func TestWithoutAutoResumeASuspendedMicroVMIsNotWoken(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	for name, with := range map[string]object{
		"no idle policy": nil,
		"autoResumeEnabled is false": {"idlePolicy": object{
			"maxIdleDurationSeconds": 3600, "suspendedDurationSeconds": 3600, "autoResumeEnabled": false,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			v := h.runUntilRunning(t, image.arn, with)
			v.suspend()
			requireRefusal(t, v.send(http.MethodGet, "/", "", "X-aws-proxy-auth", v.token), http.StatusBadGateway, "MICROVM_SUSPENDED", "")
			require.Equal(t, "SUSPENDED", v.get().State)
		})
	}
}

func TestTheEndpointOfATerminatedMicroVMAnswers502(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})
	v.call("TerminateMicrovm")
	v.await("TERMINATED")
	requireRefusal(t, v.send(http.MethodGet, "/", "", "X-aws-proxy-auth", v.token), http.StatusBadGateway, "MICROVM_CONNECT_FAILED", "")
	require.Equal(t, "TERMINATED", v.get().State)
}

func TestIngressConnectorsSayWhoReachesAMicroVM(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	const needsShell = "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."
	for name, c := range map[string]struct {
		connectors []string
		open       bool
		shell      string // why there is no token for a shell, "" = there is one
	}{
		"none given":                       {nil, true, needsShell},
		"HTTP_INGRESS":                     {[]string{"HTTP_INGRESS"}, true, needsShell},
		"ALL_INGRESS":                      {[]string{"ALL_INGRESS"}, true, needsShell},
		"NO_INGRESS":                       {[]string{"NO_INGRESS"}, false, needsShell},
		"SHELL_INGRESS":                    {[]string{"SHELL_INGRESS"}, false, ""},
		"HTTP_ and SHELL_":                 {[]string{"HTTP_INGRESS", "SHELL_INGRESS"}, true, ""},
		"ALL_ and SHELL_":                  {[]string{"ALL_INGRESS", "SHELL_INGRESS"}, true, "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or SHELL_INGRESS instead"},
		"HTTP_INGRESS but also NO_INGRESS": {[]string{"HTTP_INGRESS", "NO_INGRESS"}, false, needsShell},
	} {
		t.Run(name, func(t *testing.T) {
			request := object{}
			for _, connector := range c.connectors {
				list, _ := request["ingressNetworkConnectors"].([]string)
				request["ingressNetworkConnectors"] = append(list, managedConnector(connector))
			}
			v := h.runUntilRunning(t, image.arn, request) // its run hook has reached the app
			if c.open {
				require.Equal(t, 1, v.count().Counter)
				require.Equal(t, http.StatusNotFound, v.send(http.MethodGet, "/", "", "X-aws-proxy-auth", v.token, "X-aws-proxy-port", "9000").StatusCode, "every port the token names is open")
			} else {
				requireRefusal(t, v.send(http.MethodGet, "/", "", "X-aws-proxy-auth", v.token), http.StatusForbidden, "INGRESS_DENIED", "Access to port denied")
			}
			minutes := object{"microvmIdentifier": v.id, "expirationInMinutes": 5}
			if c.shell == "" {
				h.api.Call(t, "CreateMicrovmShellAuthToken", minutes, nil)
				return
			}
			refusal := h.api.Refused(t, "CreateMicrovmShellAuthToken", minutes)
			require.Equal(t, "ValidationException", refusal.Name)
			require.Equal(t, c.shell, refusal.Message)
		})
	}
}

func TestTheAppSeesTheRequestWithoutThePlatformsHeaders(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	got := v.send(http.MethodGet, "/headers", "", "X-aws-proxy-auth", v.token, "X-aws-proxy-port", "8080",
		"X-aws-proxy-made-up", "1", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "User-Agent", "e2e")
	require.Equal(t, http.StatusOK, got.StatusCode)

	var seen struct {
		Peer    string
		Headers [][2]string
	}
	decode(t, got.body, &seen)
	require.Equal(t, "127.0.0.1", seen.Peer)
	headers := http.Header{}
	for _, header := range seen.Headers {
		headers.Add(header[0], header[1])
	}
	require.Equal(t, v.at, headers.Get("Host"))
	require.Equal(t, "e2e", headers.Get("User-Agent"))
	require.NotEmpty(t, headers.Get("Traceparent"))
	require.Equal(t, got.Header.Get("X-Amzn-Requestid"), headers.Get("X-Amzn-Requestid"))
	for name := range headers {
		require.False(t, strings.HasPrefix(name, "X-Aws-Proxy"), name)
		require.False(t, strings.HasPrefix(name, "X-Forwarded"), name)
	}
}

func TestTheEndpointsCertificateIsOnlyTrustedThroughTheLocalCA(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	_, err := tls.Dial("tcp", v.at, &tls.Config{MinVersion: tls.VersionTLS12})
	var untrusted *tls.CertificateVerificationError
	require.ErrorAs(t, err, &untrusted)
	connection, err := tls.Dial("tcp", v.at, &tls.Config{RootCAs: h.roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	defer connection.Close()
	require.Equal(t, "h2", connection.ConnectionState().NegotiatedProtocol)
}
