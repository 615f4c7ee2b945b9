// Package sdk lets Go tests call official AWS SDKs, unmodified, each in a process of its own language.
package sdk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// callLimit bounds one call, the SDK's own retries included.
const callLimit = 2 * time.Minute

// Driver is a process that makes calls; driver.mjs says how it is told to. It is safe for concurrent use.
type Driver struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	ended  chan struct{} // closed when the process has ended
	exit   error         // how, once ended is closed

	mu      sync.Mutex // guards all below, and writes to stdin
	nextID  int
	waiting map[int]chan reply
}

type request struct {
	ID       int     `json:"id"`
	Service  string  `json:"service"`
	Command  string  `json:"command"`
	Input    any     `json:"input"`
	Config   *Config `json:"config,omitempty"`
	PageSize int     `json:"pageSize,omitempty"`
}

type reply struct {
	ID     int             `json:"id"`
	Output json.RawMessage `json:"output"`
	Error  *Error          `json:"error"`
}

// Error is what the SDK threw.
type Error struct {
	Name    string         `json:"name"`
	Message string         `json:"message"`
	Status  int            `json:"status"` // HTTP; 0 if nothing was sent, UnknownStatus if the client does not tell
	Members map[string]any `json:"members"`
}

// UnknownStatus is the status of an error that has none, or whose client does not tell it.
const UnknownStatus = -1

func (e *Error) Error() string { return fmt.Sprintf("%s (%d): %s", e.Name, e.Status, e.Message) }

// Config is the part of an SDK client's configuration that tests override.
type Config struct {
	Endpoint    string       `json:"endpoint,omitempty"`
	Region      string       `json:"region,omitempty"`
	Credentials *Credentials `json:"credentials,omitempty"`
}

// Credentials is an access key.
type Credentials struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// Bytes is how bytes are given as part of an input.
func Bytes(b []byte) map[string]string {
	return map[string]string{"$base64": base64.StdEncoding.EncodeToString(b)}
}

// Start starts a Node process with the AWS SDK for JavaScript. Its environment is env alone: it names
// endpoints, keys and region.
func Start(ctx context.Context, env []string) (*Driver, error) {
	dir, err := Install(ctx)
	if err != nil {
		return nil, err
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("find Node 20 or newer: %w", err)
	}
	return StartProgram(ctx, env, node, filepath.Join(dir, "driver.mjs"))
}

// StartProgram starts a program that reads requests and writes replies as driver.mjs does.
func StartProgram(ctx context.Context, env []string, program string, args ...string) (*Driver, error) {
	d := &Driver{cmd: exec.CommandContext(context.WithoutCancel(ctx), program, args...), ended: make(chan struct{}), waiting: map[int]chan reply{}}
	d.cmd.Env, d.cmd.Stderr = env, &d.stderr
	var err error
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go d.read(stdout)
	return d, nil
}

// Close ends the process.
func (d *Driver) Close() error {
	if err := d.stdin.Close(); err != nil {
		return fmt.Errorf("end the driver: %w", err)
	}
	<-d.ended
	if d.exit != nil {
		return fmt.Errorf("end the driver: %w\n%s", d.exit, d.stderr.String())
	}
	return nil
}

// read hands replies to whoever waits for them, until the process ends.
func (d *Driver) read(stdout io.Reader) {
	defer func() {
		d.exit = d.cmd.Wait()
		close(d.ended)
	}()
	replies := json.NewDecoder(bufio.NewReader(stdout))
	for {
		var r reply
		if err := replies.Decode(&r); err != nil {
			return // the process has ended; calls under way notice
		}
		d.mu.Lock()
		waiting := d.waiting[r.ID]
		delete(d.waiting, r.ID)
		d.mu.Unlock()
		if waiting != nil {
			waiting <- r
		}
	}
}

func (d *Driver) send(r request) (<-chan reply, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nextID++
	r.ID = d.nextID
	line, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode input: %w", err)
	}
	answer := make(chan reply, 1)
	d.waiting[r.ID] = answer
	if _, err := d.stdin.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("write to the driver: %w", err)
	}
	return answer, nil
}

func (d *Driver) call(r request, output any) error {
	answer, err := d.send(r)
	if err != nil {
		return err
	}
	select {
	case got := <-answer:
		switch {
		case got.Error != nil:
			return got.Error
		case output == nil:
			return nil
		}
		if err := json.Unmarshal(got.Output, output); err != nil {
			return fmt.Errorf("read the output of %s: %w", r.Command, err)
		}
		return nil
	case <-d.ended:
		return fmt.Errorf("the driver has ended: %w\n%s", d.exit, d.stderr.String())
	case <-time.After(callLimit):
		return fmt.Errorf("%s has not returned within %v", r.Command, callLimit)
	}
}

// Client is one SDK client.
type Client struct {
	driver  *Driver
	service string
	config  *Config
}

// MicroVMs is the client of the microVM API.
func (d *Driver) MicroVMs() *Client { return &Client{driver: d, service: "lambda-microvms"} }

// Service is the client of any service the driver knows.
func (d *Driver) Service(name string) *Client { return &Client{driver: d, service: name} }

// S3 is the client of S3.
func (d *Driver) S3() *Client { return &Client{driver: d, service: "s3"} }

// With is the same client with another configuration.
func (c *Client) With(config Config) *Client {
	return &Client{driver: c.driver, service: c.service, config: &config}
}

// Try sends a command, "RunMicrovm" for example, and decodes what it returns into output, which may be nil.
// What the SDK throws is an *Error.
func (c *Client) Try(command string, input, output any) error {
	return c.driver.call(request{Service: c.service, Command: command, Input: input, Config: c.config}, output)
}

// Call is Try for commands that must succeed.
func (c *Client) Call(t testing.TB, command string, input, output any) {
	t.Helper()
	require.NoError(t, c.Try(command, input, output), command)
}

// Refused is Try for commands that must fail, and returns why.
func (c *Client) Refused(t testing.TB, command string, input any) *Error {
	t.Helper()
	var refusal *Error
	require.ErrorAs(t, c.Try(command, input, nil), &refusal, command)
	return refusal
}

// Pages runs the SDK's paginator of a list command and decodes the pages, an array, into output.
func (c *Client) Pages(t testing.TB, command string, input any, size int, output any) {
	t.Helper()
	require.NoError(t, c.TryPages(command, input, size, output), command)
}

// TryPages is Pages for commands that may fail.
func (c *Client) TryPages(command string, input any, size int, output any) error {
	paged := struct {
		Pages any `json:"pages"`
	}{output}
	return c.driver.call(request{Service: c.service, Command: command, Input: input, Config: c.config, PageSize: size}, &paged)
}
