package awsapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// anyKey makes every access key the one of an account of the same name.
type anyKey struct{}

func (anyKey) Secret(_ context.Context, id string) (secret, account string, err error) {
	return testSecret, id, nil
}

// limited serves operations that do nothing to any account, at the rates given.
func limited(t *testing.T, clock clockwork.Clock, rates ...string) (call func(account, region, method, target string) *httptest.ResponseRecorder) {
	t.Helper()
	parsed, err := awsapi.ParseRates(rates)
	require.NoError(t, err)
	auth, limiter := awsapi.NewAuthenticator(anyKey{}, clock), awsapi.NewLimiter(parsed, clock)
	h := awsapi.NewHandler(awsapi.UnimplementedBackend{}, auth, limiter, slog.New(slog.DiscardHandler), clock)
	return func(account, region, method, target string) *httptest.ResponseRecorder {
		out, err := http.NewRequest(method, "http://api.test"+target, http.NoBody)
		require.NoError(t, err)
		sum := sha256.Sum256(nil)
		keys := aws.Credentials{AccessKeyID: account, SecretAccessKey: testSecret}
		require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), keys, out, hex.EncodeToString(sum[:]), "lambda", region, clock.Now()))
		in := httptest.NewRequest(method, "/", http.NoBody)
		in.RequestURI, in.Host, in.Header = target, out.Host, out.Header
		w := httptest.NewRecorder()
		h.ServeHTTP(w, in)
		return w
	}
}

const suspendPath = vmPath + "/suspend"

func TestCallsBeyondARateAreThrottledUntilTheClockAllowsThem(t *testing.T) {
	clock := clockwork.NewFakeClockAt(testTime)
	call := limited(t, clock, "aws")
	suspend := func(account, region string) *httptest.ResponseRecorder {
		return call(account, region, "POST", suspendPath)
	}
	for range 2 {
		require.Equal(t, 400, suspend("a", "us-east-1").Code, "it came to the backend, which has no such operation")
	}
	refused := suspend("a", "us-east-1")
	require.Equal(t, 429, refused.Code)
	require.Equal(t, "ThrottlingException", refused.Header().Get("x-amzn-errortype"))
	require.Equal(t, "1", refused.Header().Get("retry-after"))
	require.JSONEq(t, `{"message":"Rate exceeded","serviceCode":"lambda","quotaCode":null}`, refused.Body.String())
	require.Equal(t, 429, suspend("a", "eu-west-1").Code, "a region is only a name here")
	require.Equal(t, 400, suspend("b", "us-east-1").Code, "another account has its own")
	require.Equal(t, 400, call("a", "us-east-1", "POST", vmPath+"/resume").Code, "another operation, too")
	for range 200 {
		require.Equal(t, 400, call("a", "us-east-1", "GET", listPath).Code, "an operation without a rate")
	}

	clock.Advance(499 * time.Millisecond)
	require.Equal(t, 429, suspend("a", "us-east-1").Code)
	clock.Advance(time.Millisecond)
	require.Equal(t, 400, suspend("a", "us-east-1").Code, "refusals cost nothing")
	require.Equal(t, 429, suspend("a", "us-east-1").Code)
}

func TestNothingIsThrottledUnlessAskedFor(t *testing.T) {
	call := limited(t, clockwork.NewFakeClockAt(testTime))
	for range 50 {
		require.Equal(t, 400, call("a", "us-east-1", "POST", suspendPath).Code)
	}
}

func TestARetryIsPutOffAsLongAsTheRateDemands(t *testing.T) {
	clock := clockwork.NewFakeClockAt(testTime)
	call := limited(t, clock, "SuspendMicrovm=0.1")
	require.Equal(t, 400, call("a", "us-east-1", "POST", suspendPath).Code)
	require.Equal(t, "10", call("a", "us-east-1", "POST", suspendPath).Header().Get("retry-after"))
	clock.Advance(3500 * time.Millisecond)
	require.Equal(t, "7", call("a", "us-east-1", "POST", suspendPath).Header().Get("retry-after"), "rounded up")
}

func TestManyAccountsDoNotMakeThrottlingForget(t *testing.T) {
	clock := clockwork.NewFakeClockAt(testTime)
	call := limited(t, clock, "SuspendMicrovm=1/2")
	for range 2 {
		require.Equal(t, 400, call("a", "us-east-1", "POST", suspendPath).Code)
	}
	for n := range 1500 { // more than are kept without a look
		require.Equal(t, 400, call(fmt.Sprint("other", n), "us-east-1", "POST", suspendPath).Code)
	}
	require.Equal(t, 429, call("a", "us-east-1", "POST", suspendPath).Code)
}

func TestRatesAreReadAsTheyAreDocumented(t *testing.T) {
	rates, err := awsapi.ParseRates([]string{"aws", "RunMicrovm=20/40", "GetMicrovm=off", "ListMicrovms=0.5"})
	require.NoError(t, err)
	require.Equal(t, awsapi.Rates{
		"RunMicrovm": {PerSecond: 20, Burst: 40}, "ResumeMicrovm": {PerSecond: 5, Burst: 5}, "SuspendMicrovm": {PerSecond: 2, Burst: 2},
		"TerminateMicrovm": {PerSecond: 10, Burst: 10}, "CreateMicrovmAuthToken": {PerSecond: 50, Burst: 50},
		"CreateMicrovmShellAuthToken": {PerSecond: 5, Burst: 5}, "ListMicrovms": {PerSecond: 0.5, Burst: 1},
	}, rates)
	rates, err = awsapi.ParseRates([]string{"aws", "Other=1"}, "Other", "More")
	require.NoError(t, err)
	require.Contains(t, rates, "Other")
	require.NotContains(t, rates, "More", "aws has no rates for others")
	none, err := awsapi.ParseRates(nil)
	require.NoError(t, err)
	require.Empty(t, none)
	for _, bad := range []string{"AWS", "RunMicrovm", "RunMicrovm=", "RunMicrovm=0", "RunMicrovm=-1", "RunMicrovm=NaN", "RunMicrovm=Inf", "RunMicrovm=1e9", "RunMicrovm=5/0", "RunMicrovm=5/x", "Run=5", ""} {
		_, err := awsapi.ParseRates([]string{bad})
		require.Error(t, err, bad)
	}
}
