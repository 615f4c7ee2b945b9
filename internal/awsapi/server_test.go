package awsapi_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/awsapitest"
	"github.com/dormouse-dev/dormouse/internal/sigv4"
)

const (
	testKey     = "AKIDEXAMPLE"
	testSecret  = "secret"
	testAccount = "123456789012"
)

var testTime = time.Date(2026, 11, 23, 14, 51, 5, 0, time.UTC)

type testKeys struct{}

func (testKeys) Secret(_ context.Context, id string) (string, string, error) {
	if id != testKey {
		return "", "", sigv4.ErrUnknownKey
	}
	return testSecret, testAccount, nil
}

// logBuffer collects log records of concurrent handlers.
type logBuffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// testServer serves a backend to testKey.
type testServer struct {
	handler http.Handler
	log     *logBuffer
}

// newServer serves backend with a clock that stands still.
func newServer(backend awsapi.Backend) *testServer {
	return newServerAt(backend, clockwork.NewFakeClockAt(testTime))
}

// newServerNow is for clients that sign with the present time.
func newServerNow(backend awsapi.Backend) *testServer {
	return newServerAt(backend, clockwork.NewRealClock())
}

func newServerAt(backend awsapi.Backend, clock clockwork.Clock) *testServer {
	log := new(logBuffer)
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	return &testServer{awsapi.NewHandler(backend, awsapi.NewAuthenticator(testKeys{}, clock), awsapi.NewLimiter(nil, clock), logger, clock), log}
}

// answer is what a client receives.
type answer = awsapitest.Answer

// testSigner signs as testKey at the time at which newServer's clock stands.
var testSigner = awsapitest.Signer{Key: testKey, Secret: testSecret, Region: "us-east-1", Service: "lambda", At: testTime}

// newRequest is a signed request as a server receives it.
func newRequest(t testing.TB, method, target, body string) *http.Request {
	t.Helper()
	return testSigner.Request(t, method, target, body)
}

func (s *testServer) do(r *http.Request) answer { return awsapitest.Do(s.handler, r) }

// call sends a signed request.
func (s *testServer) call(t testing.TB, method, target, body string) answer {
	t.Helper()
	return s.do(newRequest(t, method, target, body))
}

func requireError(t testing.TB, a answer, status int, code awsapi.ErrorCode, message string) {
	t.Helper()
	a.RequireError(t, status, string(code), message)
}
