package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/dormouse-dev/dormouse/bench/payload"
)

// The ways to an app.
const (
	wayDirect   = "direct"   // through the guest's network alone
	wayAgent    = "agent"    // and through the agent in the guest, as all of the daemon's connections
	wayEndpoint = "endpoint" // through a microVM's endpoint
)

var allWays = []string{wayDirect, wayAgent, wayEndpoint}

// way is one way to an app, over connections that are kept alive: through an endpoint or past it. The client
// is the same for all, so that only the ways differ.
type way struct {
	name  string
	base  string // of URLs
	token string // "" where none is needed
	http  *http.Client
	vmms  func() []int // processes: the guest's VMM, beside others that do nothing,
	hosts []int        // and what else takes part
}

// transport is a client's side of a way.
func transport() *http.Transport {
	return &http.Transport{
		DisableCompression:  true,
		MaxIdleConns:        0, // no bound,
		MaxIdleConnsPerHost: 1000,
		ReadBufferSize:      64 << 10, // bytes, as the next: few steps for large bodies
		WriteBufferSize:     64 << 10,
	}
}

// endpoint is the way through a microVM's endpoint: TLS, a token, HTTP/1.1.
func (p *product) endpoint(vm microVM) *way {
	t := transport()
	t.TLSClientConfig = &tls.Config{RootCAs: p.roots}
	return &way{name: wayEndpoint, base: "https://" + vm.endpoint, token: vm.token, http: &http.Client{Transport: t},
		vmms: p.daemon.vmms, hosts: []int{os.Getpid(), p.daemon.pid()}}
}

// straight is a way past the endpoint, to a guest in the VMM with that process id.
func straight(name string, vmm int, dial func(ctx context.Context, port uint16) (net.Conn, error)) *way {
	t := transport()
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, appPort) }
	return &way{name: name, base: "http://guest", http: &http.Client{Transport: t},
		vmms: func() []int { return []int{vmm} }, hosts: []int{os.Getpid()}}
}

func (w *way) close() { w.http.CloseIdleConnections() }

// refusal is an answer other than 200.
type refusal struct {
	status int
	code   string // x-aws-proxy-error, "" when it is the app's own answer
	body   string
}

func (r refusal) Error() string { return fmt.Sprintf("%d %s %.200s", r.status, r.code, r.body) }

// open sends a request and returns the body of its answer, which is a 200.
func (w *way) open(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, w.base+path, body)
	if err != nil {
		return nil, err
	}
	if large, ok := body.(*repeated); ok {
		request.ContentLength = large.left
	}
	if w.token != "" {
		request.Header.Set(tokenHeader, w.token)
	}
	response, err := w.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return nil, refusal{response.StatusCode, response.Header.Get("x-aws-proxy-error"), string(text)}
}

// ask sends a small request and returns the whole answer.
func (w *way) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	answer, err := w.open(ctx, method, path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	return io.ReadAll(answer)
}

// fetch asks for the bytes of a seed and checks them.
func (w *way) fetch(ctx context.Context, seed uint64, size int) error {
	answer, err := w.ask(ctx, http.MethodGet, fmt.Sprintf("/bytes?seed=%d&size=%d", seed, size), nil)
	if err != nil {
		return err
	}
	wanted := make([]byte, size)
	payload.Fill(wanted, seed)
	if !bytes.Equal(answer, wanted) {
		return fmt.Errorf("%w: %d bytes of seed %d", payload.ErrDamaged, len(answer), seed)
	}
	return nil
}
