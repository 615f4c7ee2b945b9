// Package client calls the API of a Dormouse server with signed requests.
package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// maxAnswer bounds an answer, in bytes. Pages have at most 50 items of some 300 KiB.
const maxAnswer = 16 << 20

// Client calls one server with the keys of one account. It does not retry, and it has no timeout
// of its own: calls end with their context.
type Client struct {
	endpoint string // scheme://host[:port][/prefix], no slash at the end
	region   string
	keys     aws.Credentials
	signer   *v4.Signer
	http     *http.Client
}

// New makes a client for the API at endpoint, for example http://127.0.0.1:7070.
func New(endpoint, region, accessKey, secret string) *Client {
	return &Client{
		endpoint: strings.TrimSuffix(endpoint, "/"),
		region:   region,
		keys:     aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secret},
		signer:   v4.NewSigner(),
		http:     &http.Client{},
	}
}

// Do calls the operation of that name with in and decodes its answer into out, both pointers to
// the operation's structures. What the server refuses is returned as *awsapi.Error.
func (c *Client) Do(ctx context.Context, operation string, in, out any) error {
	op, ok := awsapi.Operations[operation]
	if !ok {
		return fmt.Errorf("no operation is called %q", operation)
	}
	call, err := op.NewRequest(in)
	if err != nil {
		return err
	}
	request, err := c.signed(ctx, call)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", operation, err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("call %s: %w", operation, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", operation, err)
	}
	if response.StatusCode/100 != 2 {
		return awsapi.ReadError(response.StatusCode, response.Header, body)
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("decode answer of %s: %w", operation, err)
	}
	return nil
}

// Get sends a GET request for a path beyond the service model. The body of the answer, which is a
// success, is the caller's to close; what the server refuses is returned as *awsapi.Error.
func (c *Client) Get(ctx context.Context, rawPath string, query url.Values) (*http.Response, error) {
	request, err := c.signed(ctx, &awsapi.Request{Method: http.MethodGet, RawPath: rawPath, Query: query})
	if err != nil {
		return nil, fmt.Errorf("prepare GET %s: %w", rawPath, err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", rawPath, err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer of GET %s: %w", rawPath, err)
	}
	return nil, awsapi.ReadError(response.StatusCode, response.Header, body)
}

// signed makes the HTTP request of a call.
func (c *Client) signed(ctx context.Context, call *awsapi.Request) (*http.Request, error) {
	target, err := url.Parse(c.endpoint + call.RawPath)
	if err != nil {
		return nil, err
	}
	target.RawQuery = strings.ReplaceAll(call.Query.Encode(), "+", "%20")
	request, err := http.NewRequestWithContext(ctx, call.Method, target.String(), bytes.NewReader(call.Body))
	if err != nil {
		return nil, err
	}
	if call.Body != nil {
		request.Header.Set("content-type", "application/json")
	}
	sum := sha256.Sum256(call.Body)
	hash := hex.EncodeToString(sum[:])
	request.Header.Set("x-amz-content-sha256", hash)
	return request, c.signer.SignHTTP(ctx, c.keys, request, hash, "lambda", c.region, time.Now())
}
