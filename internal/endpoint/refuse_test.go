package endpoint

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

func get(t *testing.T, client *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := client.Do(r)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res, string(body)
}

func requireAnswer(t *testing.T, want answer, res *http.Response, body string) {
	t.Helper()
	require.Equal(t, want.status, res.StatusCode)
	require.Equal(t, want.body, body)
	require.Equal(t, want.code, res.Header.Get("x-aws-proxy-error"))
	require.Regexp(t, `^[0-9a-f-]{36}$`, res.Header.Get("x-amzn-requestid"))
	if want.body == "" {
		require.Empty(t, res.Header.Get("Content-Type"))
	} else {
		require.Contains(t, res.Header.Get("Content-Type"), "text/plain")
	}
}

func TestRefusedRequestsGetTheServicesAnswersAndNeverReachTheVM(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		expired := mintFor(t, w, time.Minute, AllPorts...)
		w.clock.Advance(2 * time.Minute)
		for _, c := range []struct {
			name   string
			want   answer
			change func(r *http.Request)
		}{
			{"no token", authMissing, func(r *http.Request) { r.Header.Del(authHeader) }},
			{"not a token", authMissing, func(r *http.Request) { r.Header.Set(authHeader, "secret") }},
			{"two tokens", authMissing, func(r *http.Request) { r.Header.Add(authHeader, w.token) }},
			{"huge token", authMissing, func(r *http.Request) { r.Header.Set(authHeader, strings.Repeat("A", 50_000)) }},
			{"truncated token", authFailed, func(r *http.Request) { r.Header.Set(authHeader, w.token[:len(w.token)-4]) }},
			{"expired token", authFailed, func(r *http.Request) { r.Header.Set(authHeader, expired) }},
			{"token of another VM", authFailed, func(r *http.Request) {
				r.Header.Set(authHeader, mint(t, w.tokens, "microvm-other", AllPorts...))
			}},
			{"host of no VM", authFailed, func(r *http.Request) { r.Host = strings.Repeat("0", 36) + ".localhost" }},
			{"host of no VM and no token", authMissing, func(r *http.Request) {
				r.Host = "localhost"
				r.Header.Del(authHeader)
			}},
			{"host of no VM and not a token", authMissing, func(r *http.Request) {
				r.Host = "localhost"
				r.Header.Set(authHeader, "secret")
			}},
			{"token as subprotocol without an upgrade", authMissing, func(r *http.Request) {
				r.Header.Del(authHeader)
				r.Header.Set(subprotocolHeader, marker+", "+tokenPrefix+w.token)
			}},
			{"bad token and bad port", authMissing, func(r *http.Request) {
				r.Header.Set(authHeader, "secret")
				r.Header.Set(portHeader, "x")
			}},
			{"bad port", badRequest, func(r *http.Request) { r.Header.Set(portHeader, "70000") }},
			{"two ports", badRequest, func(r *http.Request) { r.Header[portHeader] = []string{"80", "81"} }},
			{"bad port subprotocol", badRequest, func(r *http.Request) { r.Header.Set(subprotocolHeader, portPrefix+"x") }},
			{"two port subprotocols", badRequest, func(r *http.Request) {
				r.Header.Set(subprotocolHeader, portPrefix+"80,"+portPrefix+"81")
			}},
			{"port outside the token", portDenied, func(r *http.Request) {
				r.Header.Set(authHeader, mint(t, w.tokens, testVM, PortRange{8080, 8080}))
				r.Header.Set(portHeader, "8081")
			}},
			{"default port outside the token", portDenied, func(r *http.Request) {
				r.Header.Set(authHeader, mint(t, w.tokens, testVM, PortRange{9000, 9000}))
			}},
			{"shell token", shellNeedsWebSocket, func(r *http.Request) { r.Header.Set(authHeader, mintShell(t, w, testVM)) }},
			{"shell token that names ports", shellNeedsWebSocket, func(r *http.Request) {
				r.Header.Set(authHeader, forge(t, w.tokens.ring.Load().keys[0], jose.A256GCM, nil, claims{
					MicroVM: testVM, Ports: AllPorts, Expires: w.clock.Now().Add(time.Hour).Unix(), Purpose: purposeShell,
				}))
			}},
			{"shell token of another VM", authFailed, func(r *http.Request) { r.Header.Set(authHeader, mintShell(t, w, "microvm-other")) }},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := w.request(t, http.MethodPost, "/")
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader("hello")), 5
				c.change(r)
				res, body := get(t, client, r)
				requireAnswer(t, c.want, res, body)
				require.True(t, w.vm.untouched(), "the VM was woken or its idle timer reset")
			})
		}
	})
}

func mintShell(t *testing.T, w *world, vmID string) string {
	t.Helper()
	token, err := w.tokens.MintShell(vmID, time.Hour)
	require.NoError(t, err)
	return token
}

func mintFor(t *testing.T, w *world, ttl time.Duration, ports ...PortRange) string {
	t.Helper()
	token, err := w.tokens.Mint(testVM, ports, ttl)
	require.NoError(t, err)
	return token
}

func TestVMWithoutIngressTakesNoTraffic(t *testing.T) {
	w := newWorld(t)
	w.vm.noIngress = true
	res, body := get(t, w.client(t), w.request(t, http.MethodGet, "/"))
	requireAnswer(t, ingressDenied, res, body)
	require.True(t, w.vm.untouched())
}

func TestOversizedHeadersAreRefused(t *testing.T) {
	w := newWorld(t)
	r := w.request(t, http.MethodGet, "/")
	r.Header.Set("Cookie", strings.Repeat("c", maxHeader+8192))
	res, _ := get(t, w.client(t), r)
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, res.StatusCode)
	require.True(t, w.vm.untouched())
}

func TestEveryReasonNotToReachTheGuestHasItsAnswer(t *testing.T) {
	w := newWorld(t)
	client := w.client(t)
	for _, c := range []struct {
		err  error
		want answer
	}{
		{ErrGone, microvmConnectFailed},
		{ErrSuspended, microvmSuspended},
		{ErrWakeFailed, microvmWakeFailed},
		{ErrBusy, microvmBusy},
	} {
		w.vm.failing(c.err)
		res, body := get(t, client, w.request(t, http.MethodGet, "/"))
		requireAnswer(t, c.want, res, body)
	}
	w.vm.failing(nil)
	res, body := get(t, client, w.request(t, http.MethodGet, "/"))
	requireAnswer(t, appConnectFailed, res, body)
}

func TestRefusalThatComesAfterTheRequestWasSentIsStillARefusal(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		closing, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { closing.Close() })
		go func() {
			for {
				conn, err := closing.Accept()
				if err != nil {
					return
				}
				conn.Close()
			}
		}()
		w.vm.refusesLate = true
		w.vm.forward(DefaultPort, closing.Addr().String())
		for range 20 { // the refusal comes before, while or after the request is written
			for _, size := range []int{0, 10, 1 << 20} {
				r := w.request(t, http.MethodPost, "/")
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, size))), int64(size)
				res, body := get(t, client, r)
				requireAnswer(t, appConnectFailed, res, body)
			}
		}
		_, res, err := w.dialSocket(t, http.Header{authHeader: {w.token}})
		require.Error(t, err)
		require.Equal(t, appConnectFailed.code, res.Header.Get(errorHeader))
	})
}

func TestNoTwoAnswersShareACodeOrTheirMeaning(t *testing.T) {
	codes := make(map[string]bool)
	for _, err := range []error{ErrRefused, ErrGone, ErrSuspended, ErrStale, ErrWakeFailed, ErrBusy, errParkedTooLong, errRequestBody, io.ErrUnexpectedEOF} {
		a := answerFor(err)
		require.False(t, codes[a.code], a.code)
		codes[a.code] = true
	}
	require.Equal(t, microvmConnectFailed, answerFor(errDial))
}
