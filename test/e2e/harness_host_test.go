package e2e

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/test/e2e/daemon"
	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

const (
	region  = "us-east-1"
	account = "000000000000" // made by the first start of a daemon
	bucket  = "code"
)

// object is the input of an API call.
type object = map[string]any

// host is a running daemon with SDK clients that know nothing but what `dormouse env` prints.
type host struct {
	*daemon.Daemon
	driver  *sdk.Driver
	api, s3 *sdk.Client
	env     map[string]string // of a shell that has run `dormouse env`
	roots   *x509.CertPool    // what trusts the endpoints of its microVMs

	counter, workbench sharedImage
}

// newHost starts a daemon on an empty data folder, under $DORMOUSE_DATA_DIR if that is set. It may be changed before.
func newHost(change ...func(*daemon.Daemon)) (h *host, err error) {
	ctx := context.Background()
	h = &host{}
	if h.Daemon, err = daemon.New(ctx, os.Getenv("DORMOUSE_DATA_DIR")); err != nil {
		return nil, err
	}
	started := h // a return of an error clears h
	defer func() {
		if err != nil {
			err = errors.Join(err, started.Remove())
		}
	}()
	for _, f := range change {
		f(h.Daemon)
	}
	if err := h.Start(); err != nil {
		return nil, err
	}
	env, err := h.Environment(ctx)
	if err != nil {
		return nil, err
	}
	h.env = map[string]string{}
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		h.env[name] = value
	}
	if h.roots, err = trust(h.env["DORMOUSE_CA_BUNDLE"]); err != nil {
		return nil, err
	}
	if h.driver, err = sdk.Start(ctx, env); err != nil {
		return nil, err
	}
	h.api, h.s3 = h.driver.MicroVMs(), h.driver.S3()
	return h, h.s3.Try("CreateBucket", object{"Bucket": bucket}, nil)
}

// trust reads a certificate.
func trust(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the CA (DORMOUSE_CA_BUNDLE): %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s (DORMOUSE_CA_BUNDLE) holds no certificate", path)
	}
	return roots, nil
}

// close ends the daemon as an operator does and removes what it made.
func (h *host) close() error {
	return errors.Join(h.Stop(), h.keptSecrets(), h.driver.Close(), h.Remove())
}

// keptSecrets fails if the daemon has logged its access key or a token.
func (h *host) keptSecrets() error {
	for name, secret := range map[string]string{"its secret access key": h.env["AWS_SECRET_ACCESS_KEY"], "an endpoint token": "eyJ"} {
		logged, err := h.Logged(secret)
		if err != nil {
			return fmt.Errorf("read the daemon's log: %w", err)
		}
		if logged {
			return fmt.Errorf("the daemon has logged %s", name)
		}
	}
	return nil
}

// logOnFailure adds what the daemon logs during t to t's output, should t fail.
func (h *host) logOnFailure(t *testing.T) {
	begin := h.LogSize()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the daemon during this test:\n%s", h.Log(begin))
		}
	})
}

// ownHost starts a daemon for one test, which does to it what would disturb others.
func ownHost(t *testing.T, change ...func(*daemon.Daemon)) *host {
	t.Helper()
	return ownHostWith(t, nil, change...)
}

// ownHostWith is ownHost with a configuration file, which may name the daemon's own access key.
func ownHostWith(t *testing.T, configure func(key, secret string) string, change ...func(*daemon.Daemon)) *host {
	t.Helper()
	h, err := newHost(change...)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	h.logOnFailure(t)
	if configure != nil {
		text := configure(h.env["AWS_ACCESS_KEY_ID"], h.env["AWS_SECRET_ACCESS_KEY"])
		require.NoError(t, os.WriteFile(filepath.Join(h.Dir, "dormouse.yaml"), []byte(text), 0o600))
		require.NoError(t, h.Stop())
		require.NoError(t, h.Start())
	}
	return h
}

// sharedHost is the daemon that most tests use, started by the first one.
type sharedHost struct {
	start sync.Once
	host  *host
	err   error
}

var shared sharedHost

func (s *sharedHost) on(t *testing.T) *host {
	t.Helper()
	s.start.Do(func() { s.host, s.err = newHost() })
	require.NoError(t, s.err)
	s.host.logOnFailure(t)
	return s.host
}

func (s *sharedHost) close() error {
	if s.host == nil {
		return nil
	}
	return s.host.close()
}
