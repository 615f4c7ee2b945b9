package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// endpoint is an endpoint that says hello, and then does what the test says.
func endpoint(t *testing.T, then func(*websocket.Conn, message)) *Process {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{protocol}})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		_, text, err := conn.Read(r.Context())
		var start message
		if err != nil || json.Unmarshal(text, &start) != nil {
			t.Errorf("%q, %v", text, err)
			return
		}
		_ = conn.Write(r.Context(), websocket.MessageText, []byte(`{"type":"session_init","session_id":"x"}`))
		then(conn, start)
	}))
	t.Cleanup(server.Close)
	return &Process{
		Client: server.Client(), URL: strings.Replace(server.URL, "http", "ws", 1),
		Output: &bytes.Buffer{}, Errors: &bytes.Buffer{},
	}
}

func exit(conn *websocket.Conn, code int) {
	_ = conn.Write(context.Background(), websocket.MessageText, fmt.Appendf(nil, `{"type":"exit","code":%d}`, code))
}

// openTerminal opens a pseudo terminal of 80 by 24.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { master.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { slave.Close() })
	setSize(t, slave, 80, 24)
	return master, slave
}

func setSize(t *testing.T, terminal *os.File, cols, rows uint16) {
	t.Helper()
	require.NoError(t, unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}))
}

// isRaw tells whether a terminal passes on every key.
func isRaw(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return state.Lflag&(unix.ISIG|unix.ECHO|unix.ICANON) == 0
}

func TestATerminalIsRawWhileTheProcessRunsAndTellsItsSize(t *testing.T) {
	master, slave := openTerminal(t)
	sizes := make(chan message, 2)
	p := endpoint(t, func(conn *websocket.Conn, start message) {
		sizes <- start
		_, typed, _ := conn.Read(context.Background())
		if string(typed) != "\x03" || !isRaw(t, slave) {
			t.Errorf("typed %q", typed)
		}
		setSize(t, slave, 120, 40)
		_ = unix.Kill(os.Getpid(), unix.SIGWINCH)
		_, text, _ := conn.Read(context.Background())
		var resize message
		_ = json.Unmarshal(text, &resize)
		sizes <- resize
		exit(conn, 3)
	})
	p.Input, p.Terminal = slave, TerminalOf(slave)
	require.False(t, isRaw(t, slave))
	go func() {
		for !isRaw(t, slave) { // else the terminal takes the key for itself
			time.Sleep(time.Millisecond)
		}
		_, _ = master.Write([]byte{3})
	}()
	code, err := p.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, code)
	require.Equal(t, message{Type: "start", TTY: true, Cols: 80, Rows: 24}, <-sizes)
	require.Equal(t, message{Type: "resize", Cols: 120, Rows: 40}, <-sizes)
	require.False(t, isRaw(t, slave), "the terminal is as it was")
}

func TestATerminalIsAsItWasHoweverTheProcessEnds(t *testing.T) {
	for name, end := range map[string]func(*websocket.Conn, context.CancelFunc){
		"cut off": func(conn *websocket.Conn, _ context.CancelFunc) { _ = conn.CloseNow() },
		"closed": func(conn *websocket.Conn, _ context.CancelFunc) {
			_ = conn.Close(websocket.StatusGoingAway, "microVM suspended")
		},
		"given up": func(conn *websocket.Conn, cancel context.CancelFunc) {
			cancel()
			_, _, _ = conn.Read(context.Background())
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, slave := openTerminal(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := endpoint(t, func(conn *websocket.Conn, _ message) {
				for !isRaw(t, slave) {
					time.Sleep(time.Millisecond)
				}
				end(conn, cancel)
			})
			p.Input, p.Terminal = slave, TerminalOf(slave)
			_, err := p.Run(ctx)
			require.Error(t, err)
			require.False(t, isRaw(t, slave))
			var ended *EndedError
			if name == "given up" {
				require.ErrorIs(t, err, context.Canceled)
			} else {
				require.ErrorAs(t, err, &ended)
			}
		})
	}
}

// endless is input that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestGivingUpEndsAlsoWhereTheEndpointTakesNothing(t *testing.T) {
	t.Parallel() // it takes lastWords
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	left := make(chan struct{})
	defer close(left)
	p := endpoint(t, func(*websocket.Conn, message) {
		time.AfterFunc(100*time.Millisecond, cancel) // all buffers are full by then
		<-left
	})
	p.Input = endless{}
	ended := make(chan error, 1)
	go func() {
		_, err := p.Run(ctx)
		ended <- err
	}()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(3 * lastWords):
		require.FailNow(t, "it never ends")
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	require.Nil(t, TerminalOf(file))
}

func TestManyBytesComeUnchanged(t *testing.T) {
	sent := bytes.Repeat([]byte{0, 1, 2, 255}, 1<<20)
	p := endpoint(t, func(conn *websocket.Conn, _ message) {
		for {
			kind, data, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			if kind == websocket.MessageText {
				exit(conn, 0)
				return
			}
			_ = conn.Write(context.Background(), websocket.MessageBinary, append([]byte{1}, data...))
		}
	})
	p.Input = bytes.NewReader(sent)
	code, err := p.Run(t.Context())
	require.NoError(t, err)
	require.Zero(t, code)
	require.True(t, bytes.Equal(sent, p.Output.(*bytes.Buffer).Bytes()))
}
