package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// remoteStart is what a client of the fake endpoint wants.
type remoteStart struct {
	Type    string
	Command []string
	TTY     bool
}

// shellEndpoint is the endpoint of a microVM in which process is run.
func shellEndpoint(t *testing.T, process func(*websocket.Conn, remoteStart)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(authHeader) != "shell-token" {
			t.Errorf("the token is %q", r.Header.Get(authHeader))
		}
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"dormouse.exec.v1"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		_, text, err := conn.Read(r.Context())
		var start remoteStart
		if err != nil || json.Unmarshal(text, &start) != nil || start.Type != "start" {
			t.Errorf("it begins with %q, %v", text, err)
			return
		}
		process(conn, start)
	})
}

func say(conn *websocket.Conn, kind websocket.MessageType, text string) {
	_ = conn.Write(context.Background(), kind, []byte(text))
}

// upperCase says in capitals what it reads, complains once, and exits with 7.
func upperCase(conn *websocket.Conn, start remoteStart) {
	say(conn, websocket.MessageText, `{"type":"session_init","session_id":"x"}`)
	say(conn, websocket.MessageBinary, "\x02complaint of "+strings.Join(start.Command, "|")+"\n")
	for {
		kind, data, err := conn.Read(context.Background())
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			say(conn, websocket.MessageBinary, "\x01"+strings.ToUpper(string(data)))
		} else if string(data) == `{"type":"eof"}` {
			say(conn, websocket.MessageText, `{"type":"exit","code":7}`)
			_ = conn.Close(websocket.StatusNormalClosure, "shell exited")
			return
		}
	}
}

// addShellVM adds a microVM that lets shells in.
func (f *fake) addShellVM(process func(*websocket.Conn, remoteStart)) *awsapi.GetMicrovmOutput {
	vm := f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	vm.IngressNetworkConnectors = []string{arn.ManagedConnector("us-east-1", shellConnector).String()}
	f.endpoint = shellEndpoint(f.t, process)
	return vm
}

// typing runs a command line with something on standard input.
func typing(t *testing.T, input string, args ...string) result {
	t.Helper()
	root := rootCommand()
	var out, errOut strings.Builder
	root.SetIn(strings.NewReader(input))
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(args)
	verb, err := root.ExecuteContextC(t.Context())
	status := report(&errOut, daemonFlags(verb), err)
	return result{out.String(), errOut.String(), status}
}

func TestACommandPassesItsStreamsAndExitsAsItDoes(t *testing.T) {
	f := newFake(t)
	f.addShellVM(upperCase)
	for _, args := range [][]string{{"exec", "counter", "tr", "-d", "x"}, {"exec", "counter", "--", "tr", "-d", "x"}} {
		r := typing(t, "quiet words", args...)
		require.Equal(t, result{"QUIET WORDS", "complaint of tr|-d|x\n", 7}, r)
	}
	require.Equal(t, result{"", "complaint of true\n", 7}, typing(t, "unread", "exec", "-n", "counter", "true"))
	require.Equal(t, result{"SCRIPT", "complaint of \n", 7}, typing(t, "script", "shell", "counter"))
}

func TestACommandNeedsAName(t *testing.T) {
	newFake(t)
	for _, args := range [][]string{{"exec", "counter"}, {"exec", "counter", "--"}} {
		r := typing(t, "", args...)
		require.Equal(t, exitUsage, r.status)
		require.Contains(t, r.err, "COMMAND is missing")
	}
	r := typing(t, "", "exec", "-t", "counter", "top")
	require.NotZero(t, r.status)
}

func TestAShellThatCannotBeOpenedIsExplained(t *testing.T) {
	f := newFake(t)
	vm := f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	r := dormouse(t, "shell", "counter")
	require.Equal(t, exitRefused, r.status)
	require.Contains(t, r.err, "Shell access requires SHELL_INGRESS")
	require.Contains(t, r.err, "dormouse run counter --shell")

	vm.IngressNetworkConnectors = []string{arn.ManagedConnector("us-east-1", shellConnector).String()}
	f.endpoint = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-aws-proxy-error", "MICROVM_WAKE_FAILED")
		w.WriteHeader(http.StatusBadGateway)
	})
	r = dormouse(t, "shell", "counter")
	require.Equal(t, exitCut, r.status)
	require.Contains(t, r.err, "HTTP 502 from the endpoint: it could not be woken")

	for reason, advice := range map[string]string{
		"not started: the image has no shell": "dormouse events 0c5b7f6e", "microVM suspended": "dormouse shell 0c5b7f6e",
		"a microVM may run 32 shells and commands at once":           "try again when one of them has ended",
		`not started: exec "cd": executable file not found in $PATH`: "dormouse exec 0c5b7f6e sh -c",
	} {
		f.endpoint = shellEndpoint(t, func(conn *websocket.Conn, _ remoteStart) {
			_ = conn.Close(websocket.StatusInternalError, reason)
		})
		r = typing(t, "", "shell", "counter")
		require.Equal(t, exitCut, r.status)
		require.Contains(t, r.err, reason)
		require.Contains(t, r.err, advice)
	}
}

func TestAnEndpointThatOnlyKnowsTheServicesShellsIsNotTakenForADormouse(t *testing.T) {
	f := newFake(t)
	f.addShellVM(nil)
	f.endpoint = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"lambda-microvms"}})
		if err == nil {
			_, _, _ = conn.Read(r.Context())
		}
	})
	r := typing(t, "", "shell", "counter")
	require.Equal(t, exitCut, r.status, "1 would be that of the shell")
	require.Contains(t, r.err, "does not know how to run commands")
}

func TestAnInterruptReachesTheCommand(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.addShellVM(func(conn *websocket.Conn, _ remoteStart) {
		say(conn, websocket.MessageText, `{"type":"session_init","session_id":"x"}`)
		for {
			_, data, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			switch string(data) {
			case `{"type":"eof"}`:
				cancel()
			case `{"type":"signal","signal":2}`:
				say(conn, websocket.MessageText, `{"type":"exit","code":130}`)
			}
		}
	})
	r := dormouseIn(ctx, "exec", "-n", "counter", "sleep", "100")
	require.Equal(t, exitInterrupted, r.status)
}

func TestASleeperThatOnlyWakesWhenToldIsWokenForAShell(t *testing.T) {
	f := newFake(t)
	vm := f.addShellVM(upperCase)
	vm.State = awsapi.MicrovmStateSuspended
	require.EqualValues(t, 7, typing(t, "", "exec", "counter", "true").status)
	require.Equal(t, awsapi.MicrovmStateRunning, vm.State)
}

func TestRunWithShellAddsItsConnector(t *testing.T) {
	f := newFake(t)
	f.addImage("counter")
	managed := func(name string) string { return arn.ManagedConnector("us-east-1", name).String() }
	for args, want := range map[string][]string{
		"":                             nil,
		"--shell":                      {managed("HTTP_INGRESS"), managed(shellConnector)},
		"--shell --ingress http":       {managed("HTTP_INGRESS"), managed(shellConnector)},
		"--shell --ingress http,shell": {managed("HTTP_INGRESS"), managed(shellConnector)},
	} {
		out := ok(t, append([]string{"run", "counter"}, strings.Fields(args)...)...)
		require.Equal(t, args != "", strings.Contains(out, "dormouse shell "), "it says how to open one")
		require.Equal(t, want, f.ran[len(f.ran)-1].IngressNetworkConnectors, args)
	}
}
