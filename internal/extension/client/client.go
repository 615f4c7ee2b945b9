// Package client calls the extension API of a Dormouse server.
package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"

	api "github.com/dormouse-dev/dormouse/internal/awsapi/client"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

// maxAnswer bounds an answer that is not a log, in bytes. A page has at most 1000 events, and the
// detail of one is some hundred bytes.
const maxAnswer = 16 << 20

// Client calls one server with the keys of one account. What the server refuses comes back as
// *awsapi.Error. It has no timeout of its own: calls end with their context.
type Client struct{ api *api.Client }

// New makes a client with the address and keys of another for the AWS API.
func New(c *api.Client) *Client { return &Client{c} }

// Events reads a page of events.
func (c *Client) Events(ctx context.Context, in extension.EventsInput) (*extension.EventsOutput, error) {
	return read[extension.EventsOutput](ctx, c, "events", in.Query())
}

// MicroVM reads the details of a microVM.
func (c *Client) MicroVM(ctx context.Context, id string) (*extension.MicroVM, error) {
	return read[extension.MicroVM](ctx, c, "microvms/"+url.PathEscape(id), nil)
}

// Build reads a build with its phases and the end of its log.
func (c *Client) Build(ctx context.Context, id string) (*extension.Build, error) {
	return read[extension.Build](ctx, c, "builds/"+url.PathEscape(id), nil)
}

// Logs opens a log. The reader ends with io.EOF at the end of the log, or with an error when ctx
// ends or the connection breaks. What it yields comes from inside a microVM: show it as data.
func (c *Client) Logs(ctx context.Context, in extension.LogsInput) (io.ReadCloser, error) {
	response, err := c.api.Get(ctx, extension.Prefix+"logs", in.Query())
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

func read[Out any](ctx context.Context, c *Client, path string, query url.Values) (*Out, error) {
	response, err := c.api.Get(ctx, extension.Prefix+path, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var out Out
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&out); err != nil {
		return nil, fmt.Errorf("decode answer of GET %s%s: %w", extension.Prefix, path, err)
	}
	return &out, nil
}
