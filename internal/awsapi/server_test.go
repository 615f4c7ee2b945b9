package awsapi_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
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
	return &testServer{awsapi.NewHandler(backend, awsapi.NewAuthenticator(testKeys{}, clock), logger, clock), log}
}

// answer is what a client receives.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &v), a.body)
	return v
}

// newRequest is a signed request as a server receives it.
func newRequest(t testing.TB, method, target, body string) *http.Request {
	t.Helper()
	out, err := http.NewRequest(method, "http://api.test"+target, strings.NewReader(body))
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	keys := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), keys, out, hash, "lambda", "us-east-1", testTime))

	in := httptest.NewRequest(method, "/", strings.NewReader(body))
	in.RequestURI, in.Host, in.Header = target, out.Host, out.Header
	return in
}

func (s *testServer) do(r *http.Request) answer {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	return answer{w.Code, w.Result().Header, string(body)}
}

// call sends a signed request.
func (s *testServer) call(t testing.TB, method, target, body string) answer {
	t.Helper()
	return s.do(newRequest(t, method, target, body))
}

func requireError(t testing.TB, a answer, status int, code awsapi.ErrorCode, message string) {
	t.Helper()
	require.Equal(t, status, a.status, a.body)
	require.Equal(t, string(code), a.header.Get("x-amzn-errortype"))
	require.Equal(t, "application/json", a.header.Get("content-type"))
	require.Len(t, a.header.Get("x-amzn-requestid"), 36)
	v := a.json(t)
	text, ok := v["message"].(string)
	if !ok {
		text, _ = v["Message"].(string)
	}
	require.Equal(t, message, text)
}
