package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/client"
)

const (
	appPort      = 8080
	tokenHeader  = "X-aws-proxy-auth"
	requestLimit = 2 * time.Minute // also of a request that waits in a crowd for its VM to wake
	// pollEvery is how exactly the moment of a state change is seen. A poll takes about as long.
	pollEvery = time.Millisecond
)

// product is Dormouse as its users see it: a signed API and TLS endpoints.
type product struct {
	daemon   *daemon
	api      *client.Client
	env      map[string]string // of `dormouse env`
	roots    *x509.CertPool
	imageARN string
}

// microVM is one VM of the product and the right to talk to it.
type microVM struct {
	id       string
	endpoint string // host:port
	token    string
}

func connect(ctx context.Context, d *daemon) (*product, error) {
	env, err := d.environment(ctx)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(env["DORMOUSE_CA_BUNDLE"])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New("the CA bundle holds no certificate")
	}
	api := client.New(env["AWS_ENDPOINT_URL_LAMBDA_MICROVMS"], env["AWS_REGION"], env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
	return &product{daemon: d, api: api, env: env, roots: roots}, nil
}

// launch runs a microVM and returns when its first answer has been read, and how long all took.
func (p *product) launch(ctx context.Context) (microVM, time.Duration, error) {
	began := time.Now()
	vm, err := p.run(ctx)
	if err == nil {
		err = p.get(ctx, vm)
	}
	return vm, time.Since(began), err
}

func (p *product) run(ctx context.Context) (microVM, error) {
	out, err := p.api.RunMicrovm(ctx, &awsapi.RunMicrovmInput{
		ImageIdentifier: p.imageARN,
		IdlePolicy:      &awsapi.IdlePolicy{MaxIdleDurationSeconds: 3600, SuspendedDurationSeconds: 3600, AutoResumeEnabled: true},
	})
	if err != nil {
		return microVM{}, err
	}
	vm := microVM{id: out.MicrovmId, endpoint: out.Endpoint}
	token, err := p.api.CreateMicrovmAuthToken(ctx, &awsapi.CreateMicrovmAuthTokenInput{
		MicrovmIdentifier: vm.id, ExpirationInMinutes: 60, AllowedPorts: []awsapi.PortSpecification{{Port: aws.Int32(appPort)}},
	})
	if err != nil {
		return vm, err
	}
	vm.token = token.AuthToken[tokenHeader]
	return vm, nil
}

// get asks the app once, over a TLS connection of its own, and reads the whole answer.
func (p *product) get(ctx context.Context, vm microVM) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+vm.endpoint+"/", nil)
	if err != nil {
		return err
	}
	request.Header.Set(tokenHeader, vm.token)
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: p.roots}}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", vm.id, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", vm.id, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s %s %s", vm.id, response.Status, response.Header.Get("x-aws-proxy-error"), body)
	}
	return nil
}

// suspend returns when the API says SUSPENDED, and how long that took.
func (p *product) suspend(ctx context.Context, vm microVM) (time.Duration, error) {
	began := time.Now()
	if _, err := p.api.SuspendMicrovm(ctx, &awsapi.SuspendMicrovmInput{MicrovmIdentifier: vm.id}); err != nil {
		return 0, err
	}
	err := p.await(ctx, vm, awsapi.MicrovmStateSuspended)
	return time.Since(began), err
}

// wake sends a request to a SUSPENDED VM and returns how long its answer took.
func (p *product) wake(ctx context.Context, vm microVM) (time.Duration, error) {
	began := time.Now()
	err := p.get(ctx, vm)
	return time.Since(began), err
}

func (p *product) terminate(ctx context.Context, vm microVM) error {
	if _, err := p.api.TerminateMicrovm(ctx, &awsapi.TerminateMicrovmInput{MicrovmIdentifier: vm.id}); err != nil {
		return err
	}
	return p.await(ctx, vm, awsapi.MicrovmStateTerminated)
}

// await polls the VM's state. A VM that was terminated gets into no other state any more.
func (p *product) await(ctx context.Context, vm microVM, wanted awsapi.MicrovmState) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	for {
		out, err := p.api.GetMicrovm(ctx, &awsapi.GetMicrovmInput{MicrovmIdentifier: vm.id})
		if err != nil {
			return fmt.Errorf("wait until %s is %s: %w", vm.id, wanted, err)
		}
		if out.State == wanted {
			return nil
		}
		if out.State == awsapi.MicrovmStateTerminated {
			return fmt.Errorf("%s is %s, not %s: %s", vm.id, out.State, wanted, aws.ToString(out.StateReason))
		}
		time.Sleep(pollEvery)
	}
}
