package endpoint

import (
	"io"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// openExec opens a connection of Dormouse's own protocol and says what is wanted.
func (w *world) openExec(t *testing.T, start string) *shellClient {
	t.Helper()
	c, _, err := w.dialShell(t, execProtocol)
	require.NoError(t, err)
	require.Equal(t, execProtocol, c.conn.Subprotocol())
	c.send(websocket.MessageText, start)
	return c
}

func TestACommandHasItsStreamsApartAndTellsHowItEnded(t *testing.T) {
	w := newWorld(t)
	c := w.openExec(t, `{"type":"start","command":["tr","a","b"]}`)
	c.greeted(w)
	require.Equal(t, guest.ExecRequest{Args: []string{"tr", "a", "b"}}, c.process.request)

	c.send(websocket.MessageBinary, "{\"type\":\"eof\"}\x00")
	require.Equal(t, "{\"type\":\"eof\"}\x00", c.told())
	c.send(websocket.MessageText, `{"type":"alive"}`)
	c.send(websocket.MessageText, `{"type":"signal","signal":2}`)
	require.Equal(t, "<signal 2>", c.told())
	c.send(websocket.MessageText, `{"type":"eof"}`)
	require.Equal(t, "<eof>", c.told())

	c.process.says <- guest.ExecOutput{Data: []byte("out\x00")}
	kind, text := c.read()
	require.Equal(t, websocket.MessageBinary, kind)
	require.Equal(t, "\x01out\x00", text)
	c.process.says <- guest.ExecOutput{Data: []byte("err"), Stderr: true}
	_, text = c.read()
	require.Equal(t, "\x02err", text)
	c.process.says <- guest.ExecOutput{Exited: true, Code: 42}
	kind, text = c.read()
	require.Equal(t, websocket.MessageText, kind)
	require.Equal(t, `{"type":"exit","code":42}`, text)
	c.requireClosed(websocket.StatusNormalClosure, "shell exited")
}

// Who writes to a command that ends (yes | dormouse exec … head) is told how it ended all the same.
func TestInputThatComesTooLateDoesNotHideHowACommandEnded(t *testing.T) {
	w := newWorld(t)
	c := w.openExec(t, `{"type":"start","command":["head","-1"]}`)
	c.greeted(w)
	c.process.mu.Lock()
	c.process.ended = io.EOF
	c.process.mu.Unlock()
	for range 3 {
		c.send(websocket.MessageBinary, "y\n")
		require.Equal(t, "<in vain>", c.told())
	}
	c.process.says <- guest.ExecOutput{Data: []byte("y\n")}
	_, text := c.read()
	require.Equal(t, "\x01y\n", text)
	c.process.says <- guest.ExecOutput{Exited: true, Code: 7}
	_, text = c.read()
	require.Equal(t, `{"type":"exit","code":7}`, text)
	c.requireClosed(websocket.StatusNormalClosure, "shell exited")
}

func TestAShellOfDormousesOwnClientsBeginsWithItsSize(t *testing.T) {
	w := newWorld(t)
	c := w.openExec(t, `{"type":"start","tty":true,"cols":80,"rows":24}`)
	c.greeted(w)
	require.Equal(t, guest.ExecRequest{TTY: true, Cols: 80, Rows: 24}, c.process.request)
	c.send(websocket.MessageText, `{"type":"resize","cols":5,"rows":6}`)
	require.Equal(t, "<5x6>", c.told())
}

func TestAClientThatDoesNotSpeakTheProtocolItOfferedIsSentAway(t *testing.T) {
	w := newWorld(t)
	for name, start := range map[string]string{
		"another message": `{"type":"resize","cols":1,"rows":1}`, "no JSON": "ls", "a wrong member": `{"type":"start","command":"ls"}`,
	} {
		c := w.openExec(t, start)
		c.requireClosed(websocket.StatusPolicyViolation, errClientErred.Error())
		require.Empty(t, w.vm.processes, name)
	}
	c := w.openExec(t, `{"type":"start"}`)
	c.greeted(w)
	c.send(websocket.MessageText, "typed")
	c.requireClosed(websocket.StatusPolicyViolation, errClientErred.Error())
	c.requireLetGo()
}

func TestAClientThatNeverSaysWhatItWantsIsSentAway(t *testing.T) {
	w := newWorld(t)
	c, _, err := w.dialShell(t, execProtocol)
	require.NoError(t, err)
	done := make(chan struct{})
	defer close(done)
	go func() { // the wait may not have begun yet
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				w.clock.Advance(startTime)
			}
		}
	}()
	c.requireClosed(websocket.StatusPolicyViolation, errClientSilent.Error())
	require.Empty(t, w.vm.processes)
}
