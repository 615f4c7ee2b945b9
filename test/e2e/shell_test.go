package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// shellLimit bounds what a shell is waited for: code that no VM has run yet, emulated, on a busy machine.
const shellLimit = time.Minute

// withShell lets shells and HTTP in.
var withShell = object{
	"ingressNetworkConnectors": []string{managedConnector("SHELL_INGRESS"), managedConnector("HTTP_INGRESS")},
	"idlePolicy":               wakesOnTraffic,
}

// shellToken is made by the SDK.
func (v *microVM) shellToken() string {
	v.t.Helper()
	var minted struct{ AuthToken map[string]string }
	v.host.api.Call(v.t, "CreateMicrovmShellAuthToken", object{"microvmIdentifier": v.id, "expirationInMinutes": 5}, &minted)
	require.Len(v.t, minted.AuthToken, 1)
	return minted.AuthToken["X-aws-proxy-auth"]
}

// shell is a terminal in a VM, as a browser has it.
type shell struct {
	t     *testing.T
	conn  *websocket.Conn
	shown string // since the last look
}

func (v *microVM) dialShell(token string) (*websocket.Conn, *http.Response, error) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), shellLimit)
	defer cancel()
	return websocket.Dial(ctx, "wss://"+v.at+"/shell", &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: v.host.roots, MinVersion: tls.VersionTLS12}}},
		Subprotocols: []string{"lambda-microvms", "lambda-microvms.authentication." + token},
	})
}

// openShell opens a shell and waits until it shows a prompt.
func (v *microVM) openShell() *shell {
	v.t.Helper()
	conn, _, err := v.dialShell(v.shellToken())
	require.NoError(v.t, err)
	v.t.Cleanup(func() { conn.CloseNow() })
	require.Equal(v.t, "lambda-microvms", conn.Subprotocol())
	conn.SetReadLimit(-1)
	s := &shell{t: v.t, conn: conn}
	kind, hello := s.read()
	require.Equal(v.t, websocket.MessageText, kind)
	require.Regexp(v.t, `^{"session_id":"[0-9a-f-]{36}","type":"session_init"}$`, hello)
	s.until("# ")
	return s
}

func (s *shell) read() (websocket.MessageType, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), shellLimit)
	defer cancel()
	kind, data, err := s.conn.Read(ctx)
	require.NoError(s.t, err, "the terminal shows %q", s.shown)
	return kind, string(data)
}

// until reads until the terminal has shown a text, and returns what came up to it.
func (s *shell) until(text string) string {
	s.t.Helper()
	for {
		if before, after, found := strings.Cut(s.shown, text); found {
			s.shown = after
			return before + text
		}
		_, more := s.read()
		s.shown += more
	}
}

func (s *shell) keys(keys string) {
	s.t.Helper()
	require.NoError(s.t, s.conn.Write(s.t.Context(), websocket.MessageBinary, []byte(keys)))
}

// run types a command and returns what it shows. The marks are not in the echo of what is typed.
func (s *shell) run(command string) string {
	s.t.Helper()
	s.keys("echo BEG''IN; " + command + "; echo EN''D\r")
	s.until("BEGIN\r\n")
	return strings.ReplaceAll(strings.TrimSuffix(s.until("END"), "END"), "\r", "")
}

// begin types a command of sh and waits until it is in the foreground.
func (s *shell) begin(command string) {
	s.t.Helper()
	s.keys("sh -c 'echo beg''un; " + command + "'\r")
	s.until("begun\r\n")
}

func (s *shell) resize(cols, rows int) {
	s.t.Helper()
	text := fmt.Sprintf(`{"type":"resize","cols":%d,"rows":%d}`, cols, rows)
	require.NoError(s.t, s.conn.Write(s.t.Context(), websocket.MessageText, []byte(text)))
}

func (s *shell) requireClosed(code websocket.StatusCode, reason string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), shellLimit)
	defer cancel()
	for {
		if _, _, err := s.conn.Read(ctx); err != nil {
			var closed websocket.CloseError
			require.ErrorAs(s.t, err, &closed)
			require.Equal(s.t, code, closed.Code)
			require.Equal(s.t, reason, closed.Reason)
			return
		}
	}
}

// alive are the processes whose command line holds a text and that have not ended.
func (s *shell) alive(text string) string {
	s.t.Helper()
	return strings.TrimSpace(s.run(fmt.Sprintf(
		`for p in /proc/[0-9]*; do grep -q '^State:.[^ZX]' $p/status && tr '\0' ' ' < $p/cmdline | grep %q; done 2>/dev/null`, text)))
}

func TestAShellIsATerminalInTheAppsContainer(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, withShell)
	s := v.openShell()

	require.Equal(t, "0\n", s.run("id -u"))
	require.Contains(t, s.run(`tr '\0' ' ' < /proc/1/cmdline`), "python3 app.py", "the app's processes")
	require.Equal(t, "/app\nyes\n", s.run("pwd; test -f app.py && echo yes"), "the app's files")
	require.Equal(t, "xterm\n", s.run("echo $TERM"))
	require.Regexp(t, `^/dev/pts/\d+\n$`, s.run("tty"))
	capabilities := strings.Fields(s.run("grep -h CapEff /proc/1/status /proc/self/status"))
	require.Equal(t, []string{"CapEff:", "00000000a80425fb", "CapEff:", "00000000a80425fb"}, capabilities)
	for _, namespace := range []string{"pid", "mnt", "ipc", "cgroup", "net", "uts"} {
		links := strings.Fields(s.run("readlink /proc/self/ns/" + namespace + " /proc/1/ns/" + namespace))
		require.Len(t, links, 2)
		require.Equal(t, links[1], links[0])
	}
	v.ask(http.MethodPost, "/file", "written by the app")
	require.Equal(t, "written by the app\n", s.run("cat journal.txt"))

	require.Equal(t, "0 0\n", s.run("stty size"), "no size before the first resize")
	s.resize(120, 40)
	require.Equal(t, "40 120\n", s.run("stty size"))

	s.begin("exec sleep 1000")
	s.keys("\x03")
	s.until("# ")
	require.Equal(t, "", s.alive("sleep 100[0]"))
	s.begin("read word; echo got $word; exit 6")
	s.keys("\x1a") // Ctrl-Z
	s.until("Stopped")
	s.until("# ")
	require.Contains(t, s.run("jobs"), "Stopped")
	s.keys("fg\r")
	s.until("exit 6") // bash names what it goes on with
	s.keys("it\r")
	s.until("got it")
	s.until("# ")
	s.keys("echo status=$?\r")
	s.until("status=6\r\n")

	s.keys("exit 3\r")
	s.requireClosed(websocket.StatusNormalClosure, "shell exited")
}

func TestSeveralShellsAtOnceHaveTerminalsOfTheirOwn(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.run(t, image.arn, withShell) // the first one waits for the launch
	names := map[string]bool{}
	var all []*shell
	for range 3 {
		s := v.openShell()
		all = append(all, s)
		names[s.run("tty")] = true
	}
	require.Len(t, names, 3)
	for i, s := range all {
		s.keys(fmt.Sprintf("x=%d\r", i))
	}
	for i, s := range all {
		require.Equal(t, fmt.Sprintf("%d\n", i), s.run("echo $x"))
	}
	require.NoError(t, all[0].conn.CloseNow())
	require.Equal(t, "still here\n", all[1].run("echo still here"))
	eventually(t, shellLimit, "the end of the shell whose client left", func() (bool, any) {
		left := strings.Fields(all[1].alive("^/bin/bas[h]"))
		return len(left) == 2, left
	})
}

func TestAShellEndsWithASuspendAndNothingOfItStays(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, withShell)
	nonce := v.makeNonce()
	s := v.openShell()
	s.run("sleep 4242 & true")
	s.run("(trap '' HUP; exec sleep 4243) & true")
	s.keys("sleep 4244\r")
	s.until("sleep 4244")
	command := make(chan error, 1)
	go func() {
		said, err := h.Program(context.Background(), "exec", "-n", v.id, "sleep", "4245").CombinedOutput()
		command <- fmt.Errorf("%w: %s", err, said)
	}()
	other := v.openShell()
	eventually(t, shellLimit, "the command", func() (bool, any) {
		seen := other.alive("sleep 424[2345]")
		return strings.Count(seen, "sleep") == 4, seen
	})

	v.call("SuspendMicrovm")
	s.requireClosed(websocket.StatusGoingAway, "microVM suspended")
	other.requireClosed(websocket.StatusGoingAway, "microVM suspended")
	require.ErrorContains(t, <-command, "microVM suspended")
	v.await("SUSPENDED")

	again := v.openShell() // which wakes it
	require.Equal(t, nonce, v.count().Nonce)
	eventually(t, 10*time.Second, "the end of what ran before the suspend", func() (bool, any) {
		left := again.alive("sleep 424[2345]")
		return left == "", left
	})
	require.Len(t, strings.Fields(again.alive("^/bin/bas[h]")), 1)

	v.call("TerminateMicrovm")
	again.requireClosed(websocket.StatusGoingAway, "microVM terminated")
}

func TestAShellNeedsATokenOfItsOwnAndAWebSocket(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 2)
	v, closed := h.runUntilRunning(t, image.arn, withShell), h.run(t, image.arn, nil)
	token, foreign := v.shellToken(), h.run(t, image.arn, withShell).shellToken()
	v.suspend()

	refusal := h.api.Refused(t, "CreateMicrovmShellAuthToken", object{"microvmIdentifier": closed.id, "expirationInMinutes": 5})
	require.Equal(t, "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.", refusal.Message)
	requireRefusal(t, v.send(http.MethodGet, "/shell", "", "X-aws-proxy-auth", token), http.StatusBadGateway, "SHELL_NEEDS_WEBSOCKET", "")
	for name, bad := range map[string]string{"foreign": foreign, "cut short": token[:len(token)-4]} {
		_, res, err := v.dialShell(bad)
		require.Error(t, err, name)
		require.Equal(t, http.StatusForbidden, res.StatusCode, name)
	}
	require.Equal(t, "SUSPENDED", v.get().State)
	require.Empty(t, v.events("resume"))
}

func TestCommandsPassBytesAndExitCodes(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, withShell)
	sent := make([]byte, 10<<20)
	_, _ = rand.Read(sent)
	program := func(input []byte, args ...string) (stdout, stderr string, code int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*shellLimit)
		defer cancel()
		var out, errs bytes.Buffer
		command := h.Program(ctx, args[0], args[1:]...)
		command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), &out, &errs
		if err := command.Run(); command.ProcessState == nil {
			require.NoError(t, err)
		}
		return out.String(), errs.String(), command.ProcessState.ExitCode()
	}
	back, stderr, code := program(sent, "exec", v.id, "--", "cat")
	require.Equal(t, 0, code, stderr)
	require.True(t, back == string(sent), "10 MiB there and back: %d bytes", len(back))

	stdout, stderr, code := program(nil, "exec", v.id, "sh", "-c", "echo out; echo errors >&2; exit 7")
	require.Equal(t, []any{"out\n", "errors\n", 7}, []any{stdout, stderr, code})
	_, _, code = program(nil, "exec", v.id, "sh", "-c", "kill -9 $$")
	require.Equal(t, 137, code)
	_, stderr, code = program(nil, "exec", v.id, "no-such-program")
	require.Equal(t, 255, code)
	require.Contains(t, stderr, `exec "no-such-program": executable file not found in $PATH`)

	stdout, _, code = program([]byte("echo $((6*7))\nexit 5\n"), "shell", v.id)
	require.Equal(t, "42\n", stdout)
	require.Equal(t, 5, code)

	closed := h.run(t, image.arn, nil)
	_, stderr, code = program(nil, "shell", closed.id)
	require.Equal(t, 4, code)
	require.Regexp(t, regexp.MustCompile(`Shell access requires SHELL_INGRESS[^\n]*\n[^\n]*dormouse run \S+ --shell`), stderr)
}

// Commands have what the app has, also where that is everything; and an image need not have a shell.
func TestCommandsHaveTheAppsCapabilitiesAndAnImageNeedsNoShell(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.build(t, zipFiles(t, map[string]string{
		"Dockerfile": "FROM python:3-slim\nWORKDIR /srv\nENV FROM_IMAGE=yes\nRUN rm -f /bin/bash /bin/sh /bin/dash\nUSER nobody\n" +
			`CMD ["python3", "-m", "http.server", "8080"]` + "\n",
	}), object{"additionalOsCapabilities": []string{"ALL"}})
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, withShell)
	const script = `import os
def caps(pid):
    return [line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith("Cap")]
print(os.getuid(), os.getcwd(), os.environ["FROM_IMAGE"], caps("self")[3] == caps(1)[3], caps("self")[2], open("/proc/self/cgroup").read() == open("/proc/1/cgroup").read())`
	out, err := h.Program(t.Context(), "exec", "-n", v.id, "python3", "-c", script).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Regexp(t, `^0 /srv yes True 000001f+ True\n$`, string(out))

	conn, _, err := v.dialShell(v.shellToken())
	require.NoError(t, err)
	defer conn.CloseNow()
	s := &shell{t: t, conn: conn}
	s.requireClosed(websocket.StatusInternalError, "not started: the image has no shell: neither /bin/bash nor /bin/sh")
}
