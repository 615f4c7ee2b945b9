package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/extension"
)

// httpLimit bounds a request to an endpoint; it is longer than requests are parked.
const httpLimit = 2 * time.Minute

// microVM is a VM that a test has run. Its methods fail the test when they cannot do their work.
type microVM struct {
	t     *testing.T
	host  *host
	id    string
	at    string // host:port of its endpoint
	token string // opens all its ports
	http  *http.Client
}

// vmView is what GetMicrovm answers.
type vmView struct {
	MicrovmID, State, StateReason, Endpoint, ImageArn, ImageVersion string
	StartedAt                                                       time.Time
	TerminatedAt                                                    *time.Time
	MaximumDurationInSeconds                                        int
	IngressNetworkConnectors, EgressNetworkConnectors               []string
}

// wakesOnTraffic is an idle policy under which requests wake the VM and time does nothing soon.
var wakesOnTraffic = object{"maxIdleDurationSeconds": 3600, "suspendedDurationSeconds": 3600, "autoResumeEnabled": true}

// run launches a VM and does not wait for it. It is terminated when the test ends.
func (h *host) run(t *testing.T, imageARN string, with object) *microVM {
	t.Helper()
	request := object{"imageIdentifier": imageARN}
	maps.Copy(request, with)
	var ran vmView
	h.api.Call(t, "RunMicrovm", request, &ran)
	require.Equal(t, "PENDING", ran.State)
	v := &microVM{t: t, host: h, id: ran.MicrovmID, at: ran.Endpoint}
	v.http = &http.Client{
		Timeout: httpLimit,
		// A connection for each request: those that are kept may belong to a daemon that was killed.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
	}
	t.Cleanup(v.remove)
	v.token = v.mint(object{"allPorts": object{}})
	return v
}

// runUntilRunning launches a VM and waits until it runs.
func (h *host) runUntilRunning(t *testing.T, imageARN string, with object) *microVM {
	t.Helper()
	v := h.run(t, imageARN, with)
	v.await("RUNNING")
	return v
}

// in is the VM for a subtest, which is the one to fail.
func (v *microVM) in(t *testing.T) *microVM {
	other := *v
	other.t = t
	return &other
}

// remove terminates the VM, so that it takes no room from other tests.
func (v *microVM) remove() {
	if err := v.host.api.Try("TerminateMicrovm", v.named(), nil); err != nil {
		v.t.Errorf("terminate %s: %v", v.id, err)
		return
	}
	v.await("TERMINATED")
}

func (v *microVM) named() object { return object{"microvmIdentifier": v.id} }

// call sends a command that takes nothing but the VM's id.
func (v *microVM) call(command string) {
	v.t.Helper()
	v.host.api.Call(v.t, command, v.named(), nil)
}

func (v *microVM) get() (now vmView) {
	v.t.Helper()
	v.host.api.Call(v.t, "GetMicrovm", v.named(), &now)
	return now
}

// await waits until the VM is in a state. TERMINATED is final, so it is not waited beyond it.
func (v *microVM) await(state string) (now vmView) {
	v.t.Helper()
	eventually(v.t, stateLimit, v.id+" "+state, func() (bool, any) {
		now = v.get()
		return now.State == state || now.State == "TERMINATED", now
	})
	require.Equal(v.t, state, now.State, now.StateReason)
	return now
}

// suspend suspends the VM and waits until it sleeps.
func (v *microVM) suspend() {
	v.t.Helper()
	v.call("SuspendMicrovm")
	v.await("SUSPENDED")
}

// mint makes a token for some ports.
func (v *microVM) mint(ports ...object) string {
	v.t.Helper()
	var out struct{ AuthToken map[string]string }
	v.host.api.Call(v.t, "CreateMicrovmAuthToken", object{"microvmIdentifier": v.id, "expirationInMinutes": 60, "allowedPorts": ports}, &out)
	require.Contains(v.t, out.AuthToken, "X-aws-proxy-auth")
	return out.AuthToken["X-aws-proxy-auth"]
}

// answer is a response with its body.
type answer struct {
	*http.Response
	body string
}

// try sends a request to the VM's endpoint with the headers given, name and value in turn, and no others.
func (v *microVM) try(method, path, body string, headers ...string) (answer, error) {
	request, err := http.NewRequestWithContext(context.Background(), method, "https://"+v.at+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := v.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response, string(text)}, err
}

// send is try for requests that must get an answer.
func (v *microVM) send(method, path, body string, headers ...string) answer {
	v.t.Helper()
	got, err := v.try(method, path, body, headers...)
	require.NoError(v.t, err)
	return got
}

// ask sends a request with a token that the app must answer with 200, and returns the body.
func (v *microVM) ask(method, path, body string) string {
	v.t.Helper()
	got := v.send(method, path, body, "X-aws-proxy-auth", v.token)
	require.Equal(v.t, http.StatusOK, got.StatusCode, "%s %s: %s %s", method, path, got.Header.Get("X-Aws-Proxy-Error"), got.body)
	return got.body
}

// read decodes what GET path answers.
func (v *microVM) read(path string, into any) {
	v.t.Helper()
	require.NoError(v.t, json.Unmarshal([]byte(v.ask(http.MethodGet, path, "")), into))
}

// counted is what examples/counter answers to GET /, which counts.
type counted struct {
	Counter int
	Nonce   string
	Ticks   int
}

func (v *microVM) count() (c counted) {
	v.t.Helper()
	v.read("/", &c)
	return c
}

// makeNonce has the counter make a nonce that is in its memory only: it proves later that the VM
// has not been rebooted.
func (v *microVM) makeNonce() string {
	v.t.Helper()
	var made struct{ Nonce string }
	require.NoError(v.t, json.Unmarshal([]byte(v.ask(http.MethodPost, "/nonce", "")), &made))
	require.Len(v.t, made.Nonce, 32)
	return made.Nonce
}

// vmm is the process id of the VM's VMM, 0 if it has none.
func (v *microVM) vmm() int {
	v.t.Helper()
	pid, err := v.host.VMMOf(v.id)
	require.NoError(v.t, err)
	return pid
}

// events lists the VM's events, oldest first, of one operation.
func (v *microVM) events(operation string) []extension.Event {
	v.t.Helper()
	var of []extension.Event
	for _, e := range slices.Backward(v.host.events(v.t, v.id)) {
		if e.Operation == operation {
			of = append(of, e)
		}
	}
	return of
}

// events are all of a microVM or an image, newest first, as `dormouse events` prints them.
func (h *host) events(t *testing.T, subject string) (all []extension.Event) {
	t.Helper()
	text, err := h.Command(context.Background(), "events", subject, "--output", "json", "--lines", "0")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &all))
	return all
}

// open sends a request with a token and returns the response as soon as it begins.
func (v *microVM) open(method, path string, body io.Reader) *http.Response {
	v.t.Helper()
	request, err := http.NewRequestWithContext(v.t.Context(), method, "https://"+v.at+path, body)
	require.NoError(v.t, err)
	request.Header.Set("X-aws-proxy-auth", v.token)
	response, err := v.http.Do(request)
	require.NoError(v.t, err)
	require.Equal(v.t, http.StatusOK, response.StatusCode)
	return response
}

// requireEvents waits until an operation has been recorded so many times: the daemon lets requests
// through first and records the wake then.
func (v *microVM) requireEvents(operation string, count int) []extension.Event {
	v.t.Helper()
	var events []extension.Event
	eventually(v.t, stateLimit, "events of a "+operation, func() (bool, any) {
		events = v.events(operation)
		return len(events) >= count, events
	})
	require.Len(v.t, events, count)
	return events
}
