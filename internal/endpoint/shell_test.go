package endpoint

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// shellClient is a client with a shell, and the process behind it.
type shellClient struct {
	t       *testing.T
	conn    *websocket.Conn
	process *fakeProcess
}

// dialShell opens a shell with a token of its own, over subprotocols.
func (w *world) dialShell(t *testing.T, more ...string) (*shellClient, *http.Response, error) {
	t.Helper()
	offered := append([]string{marker, tokenPrefix + mintShell(t, w, testVM)}, more...)
	conn, res, err := w.dialSocket(t, nil, offered...)
	if err != nil {
		return nil, res, err
	}
	conn.SetReadLimit(-1)
	return &shellClient{t: t, conn: conn}, res, nil
}

// open opens a shell and reads the service's first frame.
func (w *world) openShell(t *testing.T) *shellClient {
	t.Helper()
	c, _, err := w.dialShell(t)
	require.NoError(t, err)
	require.Equal(t, marker, c.conn.Subprotocol())
	c.greeted(w)
	return c
}

func (c *shellClient) greeted(w *world) {
	c.t.Helper()
	kind, text := c.read()
	require.Equal(c.t, websocket.MessageText, kind)
	require.Regexp(c.t, `^{"session_id":"[0-9a-f-]{36}","type":"session_init"}$`, text)
	c.process = <-w.vm.processes
}

func (c *shellClient) read() (websocket.MessageType, string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), wait)
	defer cancel()
	kind, data, err := c.conn.Read(ctx)
	require.NoError(c.t, err)
	return kind, string(data)
}

func (c *shellClient) send(kind websocket.MessageType, text string) {
	c.t.Helper()
	require.NoError(c.t, c.conn.Write(c.t.Context(), kind, []byte(text)))
}

// told is what the process was told next.
func (c *shellClient) told() string {
	c.t.Helper()
	select {
	case text := <-c.process.told:
		return text
	case <-time.After(wait):
		require.FailNow(c.t, "the process was told nothing")
		return ""
	}
}

// requireClosed reads to the end, and compares how it is told.
func (c *shellClient) requireClosed(code websocket.StatusCode, reason string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), wait)
	defer cancel()
	for {
		_, _, err := c.conn.Read(ctx)
		if err == nil {
			continue
		}
		var closed websocket.CloseError
		require.ErrorAs(c.t, err, &closed)
		require.Equal(c.t, code, closed.Code)
		require.Equal(c.t, reason, closed.Reason)
		return
	}
}

// requireLetGo waits until the process has been closed.
func (c *shellClient) requireLetGo() {
	c.t.Helper()
	select {
	case <-c.process.closed:
	case <-time.After(wait):
		require.FailNow(c.t, "the process is still there")
	}
}

func TestAShellSpeaksTheServicesFrames(t *testing.T) {
	w := newWorld(t)
	c := w.openShell(t)
	require.Equal(t, guest.ExecRequest{TTY: true}, c.process.request)

	c.process.says <- guest.ExecOutput{Data: []byte("$ \xff")}
	kind, text := c.read()
	require.Equal(t, websocket.MessageBinary, kind)
	require.Equal(t, "$ \xff", text)

	c.send(websocket.MessageBinary, "ls\r\x03")
	require.Equal(t, "ls\r\x03", c.told())
	c.send(websocket.MessageText, `{"type":"resize","cols":4,"rows":7}`)
	require.Equal(t, "<4x7>", c.told())
	for _, typed := range []string{
		"plain text", `{"type":"resize"}`, `{"type":"resize","cols":-1,"rows":2}`, `{"type":"resize","cols":70000,"rows":2}`, `{"type":"eof"}`,
		`{"type":"signal","signal":9}`, `["resize"]`, `{"a":1}`, `{`, strings.Repeat(" ", maxMessage) + `{"type":"resize","cols":4,"rows":7}`,
	} {
		c.send(websocket.MessageText, typed)
		for rest := typed; rest != ""; {
			got := c.told()
			require.True(t, strings.HasPrefix(rest, got), typed)
			rest = rest[len(got):]
		}
	}

	c.process.says <- guest.ExecOutput{Data: []byte("bye")}
	go func() { c.process.says <- guest.ExecOutput{Exited: true, Code: 3} }()
	_, text = c.read()
	require.Equal(t, "bye", text)
	c.requireClosed(websocket.StatusNormalClosure, "shell exited")
	c.requireLetGo()
}

func TestAShellIsAuthenticatedByHeaderOrSubprotocolWhateverThePortAndPath(t *testing.T) {
	w := newWorld(t)
	token := mintShell(t, w, testVM)
	for name, c := range map[string]struct {
		header   http.Header
		offered  []string
		selected string
	}{
		"subprotocol":          {nil, []string{marker, tokenPrefix + token}, marker},
		"subprotocol and port": {nil, []string{marker, tokenPrefix + token, portPrefix + "8022"}, marker},
		"another subprotocol":  {nil, []string{"chat", marker, tokenPrefix + token}, marker},
		"header":               {http.Header{authHeader: {token}}, nil, ""},
		"header and port":      {http.Header{authHeader: {token}, portHeader: {"nonsense"}}, []string{marker}, marker},
	} {
		conn, res, err := w.dialSocket(t, c.header, c.offered...)
		require.NoError(t, err, name)
		require.Equal(t, c.selected, conn.Subprotocol(), name)
		require.Regexp(t, `^[0-9a-f-]{36}$`, res.Header.Get("x-amzn-requestid"))
		require.NoError(t, conn.CloseNow())
	}
}

func TestAShellThatIsRefusedWakesNobody(t *testing.T) {
	w := newWorld(t)
	shell := mintShell(t, w, testVM)
	upgrade := func(change func(http.Header)) *http.Request {
		r := w.request(t, http.MethodGet, "/shell")
		r.Header = http.Header{
			authHeader: {shell}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"},
			"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
		}
		change(r.Header)
		return r
	}
	for name, c := range map[string]struct {
		want   answer
		change func(http.Header)
	}{
		"no version": {badRequest, func(h http.Header) { h.Del("Sec-Websocket-Version") }},
		"no key":     {badRequest, func(h http.Header) { h.Del("Sec-Websocket-Key") }},
		"short key":  {badRequest, func(h http.Header) { h.Set("Sec-Websocket-Key", "abc") }},
		"no upgrade": {shellNeedsWebSocket, func(h http.Header) { h.Del("Upgrade") }},
		"of another": {authFailed, func(h http.Header) { h.Set(authHeader, mintShell(t, w, "microvm-other")) }},
		"cut short":  {authFailed, func(h http.Header) { h.Set(authHeader, shell[:len(shell)-4]) }},
		"none":       {authMissing, func(h http.Header) { h.Del(authHeader) }},
		"two tokens": {authMissing, func(h http.Header) { h.Add(authHeader, shell) }},
	} {
		t.Run(name, func(t *testing.T) {
			res, body := get(t, w.client(t), upgrade(c.change))
			requireAnswer(t, c.want, res, body)
			require.True(t, w.vm.untouched())
		})
	}
	t.Run("expired", func(t *testing.T) {
		w.clock.Advance(2 * time.Hour)
		res, body := get(t, w.client(t), upgrade(func(http.Header) {}))
		requireAnswer(t, authFailed, res, body)
		require.True(t, w.vm.untouched())
	})
	t.Run("no ingress", func(t *testing.T) {
		w.vm.noShell = true
		_, res, err := w.dialShell(t)
		require.Error(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		requireAnswer(t, shellDenied, res, string(body))
		require.True(t, w.vm.untouched())
	})
	require.Empty(t, w.vm.processes)
}

func TestAShellWaitsForItsVMAndGoesOnIfThatWasSuspendedJustBefore(t *testing.T) {
	w := newWorld(t)
	w.vm.suspend()
	opened := make(chan *shellClient)
	go func() {
		c, _, err := w.dialShell(t)
		if err != nil {
			t.Error(err)
		}
		opened <- c
	}()
	require.Eventually(t, func() bool { return w.vm.waiting() == 1 }, wait, time.Millisecond)
	w.vm.wake()
	c := <-opened
	c.greeted(w)
	require.EqualValues(t, 1, w.vm.wakes.Load())
	require.Zero(t, w.vm.touched.Load(), "only what reaches the app's ports counts as use here")

	stale := &exchange{handler: newHandler(withDefaults(w.cfg)), vm: w.vm, lease: &fakeLease{vm: w.vm, generation: 1}}
	w.vm.open.Add(1)
	process, err := stale.startProcess(t.Context(), guest.ExecRequest{})
	require.NoError(t, err)
	require.NoError(t, process.Close())
	stale.lease.Release()
}

func TestAShellSaysWhyItEnds(t *testing.T) {
	for _, c := range []struct {
		cause  error
		code   websocket.StatusCode
		reason string
	}{
		{ErrAsleep, websocket.StatusGoingAway, "microVM suspended"},
		{ErrGone, websocket.StatusGoingAway, "microVM terminated"},
		{io.ErrUnexpectedEOF, websocket.StatusInternalError, "the connection to the microVM is lost"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			w := newWorld(t)
			client := w.openShell(t)
			client.process.hangUp(c.cause)
			client.requireClosed(c.code, c.reason)
			client.requireLetGo()
		})
	}
}

func TestAShellThatDoesNotStartSaysWhy(t *testing.T) {
	long := strings.Repeat("ö", 100)
	for _, c := range []struct {
		err    error
		code   websocket.StatusCode
		reason string
	}{
		{guest.AgentError("the image has no shell: neither /bin/bash nor /bin/sh"), websocket.StatusInternalError, "not started: the image has no shell: neither /bin/bash nor /bin/sh"},
		{guest.AgentError("a\x1b[2J\xff" + long), websocket.StatusInternalError, "not started: a?[2J?" + strings.Repeat("ö", 52)},
		{ErrProcesses, websocket.StatusTryAgainLater, ErrProcesses.Error()},
		{errors.New("i/o timeout"), websocket.StatusInternalError, "the connection to the microVM is lost"},
	} {
		w := newWorld(t)
		w.vm.execErr = c.err
		client, _, err := w.dialShell(t)
		require.NoError(t, err)
		client.requireClosed(c.code, c.reason)
	}
}

func TestAShellOfAVMThatCannotServeIsRefusedAsRequestsAre(t *testing.T) {
	w := newWorld(t)
	for err, want := range map[error]answer{ErrGone: microvmConnectFailed, ErrSuspended: microvmSuspended, ErrBusy: microvmBusy} {
		w.vm.failing(err)
		_, res, dialErr := w.dialShell(t)
		require.Error(t, dialErr)
		require.Equal(t, want.status, res.StatusCode)
		require.Equal(t, want.code, res.Header.Get(errorHeader))
	}
}

func TestShellsEndWithTheServer(t *testing.T) {
	w := newWorld(t)
	c := w.openShell(t)
	down := make(chan error, 1)
	go func() { down <- w.Shutdown(t.Context()) }()
	c.requireClosed(websocket.StatusGoingAway, "Dormouse is stopping")
	require.NoError(t, <-down)
	c.requireLetGo()
}

func TestAShellEndsWhenItsClientLeaves(t *testing.T) {
	w := newWorld(t)
	for name, leave := range map[string]func(*websocket.Conn) error{
		"politely": func(conn *websocket.Conn) error { return conn.Close(websocket.StatusNormalClosure, "done") },
		"suddenly": func(conn *websocket.Conn) error { return conn.CloseNow() },
	} {
		t.Run(name, func(t *testing.T) {
			c := w.openShell(t)
			require.NoError(t, leave(c.conn))
			c.requireLetGo()
		})
	}
}

func TestAClientThatGivesNoSignOfLifeDoesNotKeepItsShell(t *testing.T) {
	w := newWorld(t)
	c := w.openShell(t) // it reads no more, so it does not answer pings
	w.clock.Advance(deadAfter - pingEvery)
	require.Eventually(t, func() bool { // a tick is lost if nobody waits for it yet
		select {
		case <-c.process.closed:
			return true
		default:
			w.clock.Advance(pingEvery)
			return false
		}
	}, wait, 10*time.Millisecond)
	c.requireClosed(websocket.StatusPolicyViolation, errClientSilent.Error())
}

func TestAClientThatAnswersPingsKeepsItsShell(t *testing.T) {
	w := newWorld(t)
	pings := make(chan struct{}, 100)
	ctx, cancel := context.WithTimeout(t.Context(), 3*wait)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "wss://"+testHost+"/", &websocket.DialOptions{
		HTTPClient: w.client(t), Subprotocols: []string{marker, tokenPrefix + mintShell(t, w, testVM)},
		OnPingReceived: func(context.Context, []byte) bool { pings <- struct{}{}; return true },
	})
	require.NoError(t, err)
	defer conn.CloseNow()
	c := &shellClient{t: t, conn: conn}
	c.greeted(w)
	heard := make(chan string)
	go func() {
		_, data, _ := conn.Read(ctx)
		heard <- string(data)
	}()
	for range 3 * deadAfter / pingEvery {
		require.Eventually(t, func() bool {
			select {
			case <-pings:
				return true
			default:
				w.clock.Advance(pingEvery / 10)
				return false
			}
		}, wait, time.Millisecond)
	}
	c.process.says <- guest.ExecOutput{Data: []byte("still there")}
	require.Equal(t, "still there", <-heard)
}

func TestAClientIsNotTakenForDeadWhileTheGuestTakesNothing(t *testing.T) {
	w := newWorld(t)
	c := w.openShell(t)
	deaf := make(chan struct{})
	c.process.mu.Lock()
	c.process.deaf = deaf
	c.process.mu.Unlock()
	c.send(websocket.MessageBinary, "typed")
	require.Equal(t, "<waits>", c.told())
	for range 3 * deadAfter / pingEvery {
		w.clock.Advance(pingEvery)
	}
	close(deaf)
	require.Equal(t, "typed", c.told())
}

func FuzzParseMessage(f *testing.F) {
	for _, seed := range []string{`{"type":"resize","cols":120,"rows":40}`, `{"type":"start","command":["ls","-l"],"tty":true}`, `{"type":"signal","signal":2}`, `{"type":"eof"}`, "ls"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, ok := parseMessage(text)
		if ok && m.Type == "" || m.Type == "signal" && ok && (m.Signal == 0 || m.Signal > 64) {
			t.Fatalf("%q was taken as %+v", text, m)
		}
	})
}
