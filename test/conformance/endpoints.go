package conformance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// request is one to the endpoint of a VM, which no SDK makes: programs use any HTTP client with
// the host and token that the SDK gave them.
type request struct {
	path        string // of a GET
	host, token string // token "" = none is sent
	port        string // of the app, "" = none is named
	status      int
	body        string // as a whole, "" = any
	typed       string // if set, into a shell, which must show body
}

// endpointLimit bounds one request; it is longer than the daemon lets one wait for a VM.
const endpointLimit = 2 * time.Minute

// endpoints sends requests to VMs and trusts the daemon's CA.
type endpoints struct{ client *http.Client }

func newEndpoints(caFile string) (*endpoints, error) {
	text, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA of the endpoints: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return &endpoints{&http.Client{
		Timeout:   endpointLimit,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}}, nil
}

// check sends a request and tells how the answer differs from what is wanted.
func (e *endpoints) check(ctx context.Context, r request, want members) error {
	asked, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.host+r.path, http.NoBody)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	for name, value := range map[string]string{"X-aws-proxy-auth": r.token, "X-aws-proxy-port": r.port} {
		if value != "" {
			asked.Header.Set(name, value)
		}
	}
	response, err := e.client.Do(asked)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if response.StatusCode != r.status || r.body != "" && string(body) != r.body {
		return fmt.Errorf("%s: %q instead of %d %s", response.Status, body, r.status, r.body)
	}
	if want == nil {
		return nil
	}
	var output any
	if err := json.Unmarshal(body, &output); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return compare(output, want)
}
