package guest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Dialer opens a connection to a TCP port of the guest through the network stack of its VM.
type Dialer func(ctx context.Context, port uint16) (net.Conn, error)

// AgentError is a text the agent answered with. It comes from inside the VM: show it as data.
type AgentError string

func (e AgentError) Error() string { return "guest: agent: " + string(e) }

// How long the agent may take beyond what the app itself is given. They only stop a guest that
// never answers; callers give tighter ones with their context.
const (
	bootLimit    = 60 * time.Second
	quiesceLimit = 60 * time.Second
	graceLimit   = 15 * time.Second // for Hook and Restore, on top of the hook's own timeout
)

// Client talks to the agent of one VM. It trusts nothing it gets back: every size is bounded, and
// every call ends with its context or the limits above. It is safe for concurrent use.
type Client struct {
	dial Dialer
	now  func() time.Time // replaced in tests

	mu     sync.Mutex
	secret [SecretSize]byte // guarded by mu
}

// New makes a client that knows the VM's present secret.
func New(dial Dialer, secret [SecretSize]byte) *Client {
	return &Client{dial: dial, now: time.Now, secret: secret}
}

// Boot starts the app. On success the client uses r.Secret from now on. An AgentError tells that
// the app could not be started, for example because its command does not exist.
func (c *Client) Boot(ctx context.Context, r BootRequest) error {
	if len(r.Secret) != SecretSize {
		return fmt.Errorf("guest: boot secret has %d bytes, not %d", len(r.Secret), SecretSize)
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if _, err := c.call(ctx, Call{Boot: &r}); err != nil {
		return fmt.Errorf("start the app: %w", err)
	}
	c.setSecret([SecretSize]byte(r.Secret))
	return nil
}

// Hook calls one lifecycle hook once; polling ready and validate is the caller's business.
// The error is about the agent; what became of the hook itself is in the reply.
func (c *Client) Hook(ctx context.Context, r HookRequest) (HookReply, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout+graceLimit)
	defer cancel()
	reply, err := c.hook(ctx, &r)
	if err != nil {
		return HookReply{}, fmt.Errorf("call the %s hook: %w", r.Name, err)
	}
	return reply, nil
}

func (c *Client) hook(ctx context.Context, r *HookRequest) (reply HookReply, err error) {
	body, err := AppendHookRequest(nil, r)
	if err != nil {
		return reply, err
	}
	conn, err := c.send(ctx, OpHook, body)
	if err != nil {
		return reply, err
	}
	defer conn.Close()
	defer abortWith(ctx, conn, &err)()
	frame, err := ReadFrame(conn)
	if err != nil {
		return reply, err
	}
	return ParseHookReply(frame)
}

// Quiesce makes the guest as small as it gets, right before an image snapshot.
func (c *Client) Quiesce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quiesceLimit)
	defer cancel()
	if _, err := c.call(ctx, Call{Quiesce: &QuiesceRequest{}}); err != nil {
		return fmt.Errorf("quiesce the guest: %w", err)
	}
	return nil
}

// Restore makes a restored VM itself again and runs its run or resume hook. It may be called
// before the VM runs: the connection is made as soon as the guest answers. On success the client uses r.Secret
// from now on. A reply whose Hook failed is not an error.
func (c *Client) Restore(ctx context.Context, r RestoreRequest) (RestoreReply, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Hook.Timeout+graceLimit)
	defer cancel()
	reply, err := c.restore(ctx, r)
	if err == nil && reply.Error != "" {
		err = AgentError(reply.Error)
	}
	if err != nil {
		return reply, fmt.Errorf("fix up the restored guest: %w", err)
	}
	c.setSecret(r.Secret)
	return reply, nil
}

func (c *Client) restore(ctx context.Context, r RestoreRequest) (reply RestoreReply, err error) {
	body, err := AppendRestoreRequest(nil, &r)
	if err != nil {
		return reply, err
	}
	conn, err := c.send(ctx, OpRestore, body)
	if err != nil {
		return reply, err
	}
	defer conn.Close()
	defer abortWith(ctx, conn, &err)()
	if err := c.tellTime(conn, r.UnixNanos); err != nil {
		return reply, err
	}
	frame, err := ReadFrame(conn)
	if err != nil {
		return reply, err
	}
	return ParseRestoreReply(frame)
}

// tellTime answers every ClockRequest of the agent.
func (c *Client) tellTime(conn net.Conn, unixNanos int64) error {
	for range MaxClockRequests + 1 {
		var request [1]byte
		if _, err := io.ReadFull(conn, request[:]); err != nil {
			return err
		}
		switch request[0] {
		case ClockDone:
			return nil
		case ClockRequest:
		default:
			return ErrCompact
		}
		now := unixNanos
		if now == 0 {
			now = c.now().UnixNano()
		}
		if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, uint64(now))); err != nil {
			return err
		}
	}
	return ErrCompact
}

// call does one OpCall exchange on a connection of its own.
func (c *Client) call(ctx context.Context, call Call) (reply CallReply, err error) {
	conn, err := c.open(ctx, OpCall, 0)
	if err != nil {
		return reply, err
	}
	defer conn.Close()
	defer abortWith(ctx, conn, &err)()
	if err := WriteJSON(conn, call); err != nil {
		return reply, err
	}
	if err := ReadJSON(conn, &reply); err != nil {
		return reply, err
	}
	if reply.Error != "" {
		return reply, AgentError(reply.Error[:min(len(reply.Error), MaxErrorText)])
	}
	return reply, nil
}

// open dials the agent and sends the preamble.
func (c *Client) open(ctx context.Context, op Op, port uint16) (net.Conn, error) {
	return c.begin(ctx, c.preamble(op, port))
}

// send dials the agent and sends the preamble with a first frame, in one write: it is one segment
// where it fits, and wakes the guest up once.
func (c *Client) send(ctx context.Context, op Op, body []byte) (net.Conn, error) {
	return c.begin(ctx, AppendFrame(c.preamble(op, 0), body))
}

func (c *Client) begin(ctx context.Context, first []byte) (conn net.Conn, err error) {
	conn, err = c.dial(ctx, AgentPort)
	if err != nil {
		return nil, err
	}
	stop := abortWith(ctx, conn, &err)
	_, err = conn.Write(first)
	stop()
	if err == nil {
		err = context.Cause(ctx) // conn may have a deadline by now, and is of no use to anybody
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (c *Client) preamble(op Op, port uint16) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := Preamble{Op: op, Port: port, Secret: c.secret}
	return p.Append(make([]byte, 0, 512))
}

func (c *Client) setSecret(secret [SecretSize]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secret = secret
}

// abortWith makes conn fail at once when ctx ends. The returned function undoes that and puts the
// reason of ctx in place of the I/O error it caused.
func abortWith(ctx context.Context, conn net.Conn, err *error) func() {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() {
		if !stop() && *err != nil {
			*err = fmt.Errorf("%w (%w)", context.Cause(ctx), *err)
		}
	}
}
