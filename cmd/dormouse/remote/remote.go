// Package remote runs a process in a microVM through its endpoint, and joins it with this process's terminal or pipes.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	marker   = "lambda-microvms"
	protocol = "dormouse.exec.v1" // docs/extension-api.md

	// aliveEvery is how often the endpoint is told that this process is there, also while it reads nothing
	// because nobody takes its output.
	aliveEvery = 30 * time.Second
	// piece is how many bytes of input are sent at once.
	piece = 32 << 10
	// lastWords is how long a process may take to end that was sent a signal because this one got it.
	lastWords = 5 * time.Second
	sigint    = 2 // of Linux
)

// Process says what to run, and where.
type Process struct {
	Client  *http.Client // reaches the endpoint
	URL     string       // of the endpoint, wss://…
	Header  http.Header  // with the token
	Command []string     // empty: a shell of the image
	Input   io.Reader    // nil: none
	Output  io.Writer
	Errors  io.Writer
	// Terminal gives the process a terminal of its own, which this one then is; nil: it gets pipes.
	Terminal *Terminal
}

// RefusedError is an answer of the endpoint in place of a connection.
type RefusedError struct{ Response *http.Response }

func (e *RefusedError) Error() string { return "the endpoint answers " + e.Response.Status }

// EndedError says that the connection ended before the process did, with what the endpoint said.
type EndedError struct{ Reason string }

func (e *EndedError) Error() string { return e.Reason }

// ErrForeign means that the endpoint does not know the protocol.
var ErrForeign = errors.New("the endpoint does not know how to run commands: is it a Dormouse of this version?")

// Run runs the process to its end and returns its exit code. Errors: *RefusedError, *EndedError, or ctx's.
// When ctx ends, a process without a terminal is interrupted; in any case it ends with the connection.
func (p *Process) Run(ctx context.Context) (code int, err error) {
	conn, response, err := websocket.Dial(ctx, p.URL, &websocket.DialOptions{ //nolint:bodyclose // Dial closes it, or makes it bytes
		HTTPClient: p.Client, HTTPHeader: p.Header, Subprotocols: []string{marker, protocol},
	})
	if err != nil {
		if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
			return 0, &RefusedError{response}
		}
		return 0, err
	}
	defer func() { _ = conn.CloseNow() }()
	if conn.Subprotocol() != protocol {
		return 0, ErrForeign
	}
	conn.SetReadLimit(2 * piece)
	c := &connection{Conn: conn, process: p}
	return c.run(ctx)
}

// connection is a process that was asked for.
type connection struct {
	*websocket.Conn
	process *Process
}

// message is a text message, in either direction.
type message struct {
	Type    string   `json:"type"`
	Command []string `json:"command,omitempty"`
	TTY     bool     `json:"tty,omitempty"`
	Cols    uint16   `json:"cols,omitempty"`
	Rows    uint16   `json:"rows,omitempty"`
	Signal  int      `json:"signal,omitempty"`
	Code    int      `json:"code,omitempty"`
}

func (c *connection) send(m message) error { return c.sendWithin(context.Background(), m) }

// sendWithin gives up with ctx: an endpoint whose guest takes no input takes nothing else either.
func (c *connection) sendWithin(ctx context.Context, m message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	return c.Write(ctx, websocket.MessageText, text)
}

func (c *connection) run(ctx context.Context) (int, error) {
	start := message{Type: "start", Command: c.process.Command, TTY: c.process.Terminal != nil}
	if start.TTY {
		start.Cols, start.Rows = c.process.Terminal.size()
	}
	if err := c.send(start); err != nil {
		return 0, ended(err)
	}
	if hello, err := c.hello(ctx); err != nil || !hello {
		return 0, err
	}
	if start.TTY {
		restore, err := c.process.Terminal.raw()
		if err != nil {
			return 0, err
		}
		defer restore()
		defer c.process.Terminal.watch(func(cols, rows uint16) { _ = c.send(message{Type: "resize", Cols: cols, Rows: rows}) })()
	}
	if c.process.Input != nil {
		go c.feed()
	} else if err := c.send(message{Type: "eof"}); err != nil {
		return 0, ended(err)
	}
	done := make(chan struct{})
	var beside sync.WaitGroup
	defer beside.Wait()
	defer close(done)
	defer func() { _ = c.CloseNow() }() // first: who is sending still may wait for ever
	beside.Go(func() { c.mind(ctx, done) })
	code, err := c.hear()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return code, err
}

// hello waits for the first message, which says that the process runs.
func (c *connection) hello(ctx context.Context) (bool, error) {
	kind, text, err := c.Read(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		return false, ended(err)
	}
	var m message
	if kind != websocket.MessageText || json.Unmarshal(text, &m) != nil || m.Type != "session_init" {
		return false, ErrForeign
	}
	return true, nil
}

// feed sends input until there is no more. It is left behind in a read when the process ends first.
func (c *connection) feed() {
	buffer := make([]byte, piece)
	for {
		n, err := c.process.Input.Read(buffer)
		if n > 0 && c.Write(context.Background(), websocket.MessageBinary, buffer[:n]) != nil {
			return
		}
		if err != nil {
			_ = c.send(message{Type: "eof"})
			return
		}
	}
}

// mind gives signs of life, and ends the process with ctx.
func (c *connection) mind(ctx context.Context, done <-chan struct{}) {
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		select {
		case <-done:
			return
		case <-alive.C:
			_ = c.sendWithin(ctx, message{Type: "alive"})
		case <-ctx.Done():
			if c.process.Terminal == nil {
				c.interrupt(done)
			}
			_ = c.CloseNow()
			return
		}
	}
}

// interrupt sends the process a signal, and gives it time to end.
func (c *connection) interrupt(done <-chan struct{}) {
	late, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	if c.sendWithin(late, message{Type: "signal", Signal: sigint}) != nil {
		return
	}
	select {
	case <-done:
	case <-late.Done():
	}
}

// hear writes what the process says, and returns how it ended.
func (c *connection) hear() (int, error) {
	for {
		kind, data, err := c.Read(context.Background())
		switch {
		case err != nil:
			return 0, ended(err)
		case kind == websocket.MessageText:
			var m message
			if json.Unmarshal(data, &m) == nil && m.Type == "exit" {
				_ = c.Close(websocket.StatusNormalClosure, "")
				return m.Code, nil
			}
		case len(data) > 0:
			to := c.process.Output
			if data[0] == 2 {
				to = c.process.Errors
			}
			if _, err := to.Write(data[1:]); err != nil {
				return 0, fmt.Errorf("write the output: %w", err)
			}
		}
	}
}

// ended words the end of a connection.
func ended(err error) error {
	var closed websocket.CloseError
	if errors.As(err, &closed) && closed.Reason != "" {
		return &EndedError{closed.Reason}
	}
	return &EndedError{"the connection to the endpoint is lost"}
}
