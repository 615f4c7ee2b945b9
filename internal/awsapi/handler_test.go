package awsapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/client"
)

const (
	vmPath   = "/2025-09-09/microvms/microvm-1"
	listPath = "/2025-09-09/microvms"
)

// getBackend answers GetMicrovm with a function and nothing else.
type getBackend struct {
	awsapi.UnimplementedBackend
	get func(context.Context, *awsapi.GetMicrovmInput) (*awsapi.GetMicrovmOutput, error)
}

func (b getBackend) GetMicrovm(ctx context.Context, in *awsapi.GetMicrovmInput) (*awsapi.GetMicrovmOutput, error) {
	return b.get(ctx, in)
}

// failing is a server whose GetMicrovm ends with err.
func failing(err error) *testServer {
	return newServer(getBackend{get: func(context.Context, *awsapi.GetMicrovmInput) (*awsapi.GetMicrovmOutput, error) {
		return nil, err
	}})
}

func TestTheBackendLearnsWhoCalls(t *testing.T) {
	var caller awsapi.Caller
	server := newServer(getBackend{get: func(ctx context.Context, in *awsapi.GetMicrovmInput) (*awsapi.GetMicrovmOutput, error) {
		caller = awsapi.CallerFrom(ctx)
		return &awsapi.GetMicrovmOutput{MicrovmId: in.MicrovmIdentifier}, nil
	}})
	a := server.call(t, "GET", vmPath, "")
	require.Equal(t, 200, a.Status)
	require.Equal(t, awsapi.Caller{AccountID: testAccount, Region: "us-east-1", AccessKeyID: testKey, RequestID: a.Header.Get("x-amzn-requestid")}, caller)
	require.Equal(t, "microvm-1", a.JSON(t)["microvmId"])
	require.Equal(t, awsapi.Caller{}, awsapi.CallerFrom(t.Context()))
}

func TestErrorsOfTheBackendTravelWithTheirDeclaredMembers(t *testing.T) {
	for _, c := range []struct {
		err    *awsapi.Error
		status int
		body   string
	}{
		{awsapi.NotFound("MicroVM not found: %s", "x"), 404, `{"message":"MicroVM not found: x","resourceId":null,"resourceType":null}`},
		{awsapi.NotFound("m").WithResource("i", "t"), 404, `{"message":"m","resourceId":"i","resourceType":"t"}`},
		{awsapi.Conflict("m"), 409, `{"message":"m","resourceId":null,"resourceType":null}`},
		{awsapi.QuotaExceeded("m").WithQuota("lambda", "L-CD1C0CC4"), 402, `{"message":"m","resourceId":null,"resourceType":null,"serviceCode":"lambda","quotaCode":"L-CD1C0CC4"}`},
		{awsapi.Validation("%s", "100% <b>"), 400, `{"message":"100% <b>"}`},
		{awsapi.AccessDenied("m"), 403, `{"Message":"m"}`},
		{awsapi.InsufficientCapacity("m"), 500, `{"message":"m"}`},
		{awsapi.Throttling("m"), 429, `{"message":"m","serviceCode":null,"quotaCode":null}`},
		{awsapi.Errorf(awsapi.InvalidParameterValueException, "m"), 400, `{"Type":"User","message":"m"}`},
		{awsapi.Errorf(awsapi.ServiceException, "m"), 500, `{"Type":"Server","message":"m"}`},
	} {
		a := failing(fmt.Errorf("wrapped: %w", c.err)).call(t, "GET", vmPath, "")
		require.Equal(t, c.status, a.Status)
		require.Equal(t, string(c.err.Code), a.Header.Get("x-amzn-errortype"))
		require.JSONEq(t, c.body, a.Body)
		require.Empty(t, a.Header.Get("retry-after"))
	}
}

// connectorBackend answers GetNetworkConnector with an error.
type connectorBackend struct {
	awsapi.UnimplementedBackend
	err error
}

func (b connectorBackend) GetNetworkConnector(context.Context, *awsapi.GetNetworkConnectorInput) (*awsapi.GetNetworkConnectorOutput, error) {
	return nil, b.err
}

func TestErrorsOfLambdaCoreHaveItsNamesAndForms(t *testing.T) {
	const path = "/2026-04-04/network-connectors/"
	for _, c := range []struct {
		err    error
		status int
		code   awsapi.ErrorCode
		body   string
	}{
		{awsapi.NotFound("m").WithResource("i", "t"), 404, awsapi.ResourceNotFoundException, `{"Type":"User","Message":"m"}`},
		{awsapi.Validation("m"), 400, awsapi.InvalidParameterValueException, `{"Type":"User","message":"m"}`},
		{awsapi.Conflict("m"), 409, awsapi.ResourceConflictException, `{"Type":"User","message":"m"}`},
		{awsapi.QuotaExceeded("m"), 400, awsapi.NetworkConnectorLimitExceededException, `{"Type":"User","message":"m"}`},
		{awsapi.Throttling("m"), 429, awsapi.TooManyRequestsException, `{"Type":"User","message":"m"}`},
		{awsapi.AccessDenied("m"), 403, awsapi.AccessDeniedException, `{"Message":"m"}`},
		{errors.New("disk"), 500, awsapi.ServiceException, `{"Type":"Server","Message":"The service encountered an internal error. Please try again."}`},
	} {
		a := newServer(connectorBackend{err: c.err}).call(t, "GET", path+"office", "")
		require.Equal(t, c.status, a.Status)
		require.Equal(t, string(c.code), a.ErrorType())
		require.JSONEq(t, c.body, a.Body)
	}
	a := newServer(connectorBackend{}).call(t, "GET", path, "")
	requireError(t, a, 400, awsapi.InvalidParameterValueException, "1 validation error detected: Value '' at 'Identifier' failed to satisfy constraint: Member must have length greater than or equal to 1")
	a = newServer(connectorBackend{}).call(t, "PUT", path+"office", "[]")
	requireError(t, a, 400, awsapi.InvalidParameterValueException, "Expected null")
}

func TestRetryAfterIsSentInWholeSeconds(t *testing.T) {
	a := failing(awsapi.Throttling("m").WithRetryAfter(1100*time.Millisecond)).call(t, "GET", vmPath, "")
	require.Equal(t, "2", a.Header.Get("retry-after"))
	require.NotContains(t, a.Body, "retry")
}

func TestWhatWentWrongInsideIsLoggedOnceAndNotShown(t *testing.T) {
	const secret = "disk /var/lib/x is gone"
	const text = "The service encountered an internal error. Please try again."
	for name, server := range map[string]*testServer{
		"error":         failing(errors.New(secret)),
		"with a cause":  failing(awsapi.Internal(errors.New(secret))),
		"unknown code":  failing(awsapi.Errorf("Bogus", secret)),
		"not even this": newServer(getBackend{get: func(context.Context, *awsapi.GetMicrovmInput) (*awsapi.GetMicrovmOutput, error) { panic(secret) }}),
	} {
		a := server.call(t, "GET", vmPath, "")
		requireError(t, a, 500, awsapi.InternalServerException, text)
		require.NotContains(t, a.Body, "disk", name)
		log := server.log.String()
		require.Equal(t, 1, strings.Count(log, "level=ERROR"), name)
		require.Equal(t, 1, strings.Count(log, secret), name)
		for _, want := range []string{"operation=GetMicrovm", "account=" + testAccount, "requestId=" + a.Header.Get("x-amzn-requestid")} {
			require.Contains(t, log, want, name)
		}
	}
}

func TestABackendThatReturnsNothingIsAnInternalError(t *testing.T) {
	a := failing(nil).call(t, "GET", vmPath, "")
	require.Equal(t, 500, a.Status)
}

func TestARefusalsCauseIsLoggedButNotShown(t *testing.T) {
	server := failing(awsapi.Validation("no").WithCause(errors.New("inner")))
	a := server.call(t, "GET", vmPath, "")
	requireError(t, a, 400, awsapi.ValidationException, "no")
	require.Contains(t, server.log.String(), "level=INFO")
	require.Contains(t, server.log.String(), "inner")
}

func TestOperationsWithoutABackendSaySo(t *testing.T) {
	a := newServer(awsapi.UnimplementedBackend{}).call(t, "GET", listPath, "")
	requireError(t, a, 400, awsapi.ValidationException, "The operation ListMicrovms is not available on this Dormouse server.")
}

func TestUnsignedAndBadlySignedRequestsReachNoBackend(t *testing.T) {
	server := failing(errors.New("reached"))
	unsigned := httptest.NewRequest("GET", vmPath, nil)
	requireError(t, server.do(unsigned), 403, awsapi.MissingAuthenticationTokenException, "Missing Authentication Token")

	bearer := httptest.NewRequest("GET", vmPath, nil)
	bearer.Header.Set("Authorization", "Bearer x")
	require.Equal(t, "IncompleteSignatureException", server.do(bearer).Header.Get("x-amzn-errortype"))

	changed := newRequest(t, "GET", vmPath, "")
	changed.RequestURI = vmPath + "2"
	a := server.do(changed)
	require.Equal(t, 403, a.Status)
	require.Equal(t, "InvalidSignatureException", a.Header.Get("x-amzn-errortype"))

	body := newRequest(t, "POST", listPath, `{"imageIdentifier":"a"}`)
	body.Body = io.NopCloser(strings.NewReader(`{"imageIdentifier":"b"}`))
	require.Equal(t, "InvalidSignatureException", server.do(body).Header.Get("x-amzn-errortype"))

	lying := newRequest(t, "GET", vmPath, "")
	lying.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	requireError(t, server.do(lying), 403, awsapi.InvalidSignatureException, "The header x-amz-content-sha256 is not the SHA-256 of the request body.")
	require.Empty(t, server.log.String())
}

func TestUnknownRoutesAreJSONErrorsToo(t *testing.T) {
	server := newServer(awsapi.UnimplementedBackend{})
	requireError(t, server.call(t, "GET", "/nowhere", ""), 404, awsapi.UnknownOperationException, "No operation of the service has this method and path.")
	a := server.call(t, "PUT", listPath, "")
	requireError(t, a, 405, awsapi.UnknownOperationException, "The path does not allow the method; it allows GET, POST.")
	require.Equal(t, "GET, POST", a.Header.Get("allow"))
	requireError(t, server.call(t, "GET", listPath+"?a=%zz", ""), 400, awsapi.ValidationException, "The query string is malformed.")
}

// countingReader is an endless body that knows how much of it was read.
type countingReader struct{ read atomic.Int64 }

func (r *countingReader) Read(p []byte) (int, error) {
	r.read.Add(int64(len(p)))
	return len(p), nil
}

func TestAHugeBodyIsRefusedWithoutReadingIt(t *testing.T) {
	server := newServer(awsapi.UnimplementedBackend{})
	const message = "Request must be smaller than 1048576 bytes."
	for name, declared := range map[string]int64{"declared": 5 << 30, "chunked": -1} {
		body := new(countingReader)
		r := newRequest(t, "POST", listPath, "")
		r.Body, r.ContentLength = io.NopCloser(body), declared
		requireError(t, server.do(r), 413, awsapi.RequestEntityTooLargeException, message)
		require.LessOrEqual(t, body.read.Load(), int64(2*awsapi.MaxBody), name)
		if declared > 0 {
			require.Zero(t, body.read.Load(), name)
		}
	}
	stranger := httptest.NewRequest("POST", listPath, new(countingReader))
	stranger.ContentLength = -1
	body := new(countingReader)
	stranger.Body = io.NopCloser(body)
	require.Equal(t, 403, server.do(stranger).Status)
	require.Zero(t, body.read.Load(), "the body of a stranger is not read")
}

func TestAHugeBodyIsRefusedOverTheWire(t *testing.T) {
	server := httptest.NewServer(newServer(awsapi.UnimplementedBackend{}).handler)
	defer server.Close()
	r, err := http.NewRequest("POST", server.URL+listPath, new(countingReader))
	require.NoError(t, err)
	r.ContentLength = 5 << 30
	r.Header.Set("Expect", "100-continue") // as curl does: the body waits for the server's word
	transport := &http.Transport{ExpectContinueTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(r)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	require.Equal(t, 413, response.StatusCode)
}

func TestABodyOfExactlyTheLimitIsRead(t *testing.T) {
	body := `{"imageIdentifier":"` + strings.Repeat("x", awsapi.MaxBody-len(`{"imageIdentifier":""}`)) + `"}`
	a := newServer(awsapi.UnimplementedBackend{}).call(t, "POST", listPath, body)
	require.Equal(t, 400, a.Status)
	require.Contains(t, a.Body, "less than or equal to 256")
}

func TestRequestsAtOnceDoNotMixUp(t *testing.T) {
	server := newServer(getBackend{get: func(_ context.Context, in *awsapi.GetMicrovmInput) (*awsapi.GetMicrovmOutput, error) {
		return &awsapi.GetMicrovmOutput{MicrovmId: in.MicrovmIdentifier}, nil
	}})
	var ids sync.Map
	var group sync.WaitGroup
	for i := range 50 {
		r := newRequest(t, "GET", fmt.Sprintf("/2025-09-09/microvms/vm-%d", i), "")
		group.Go(func() {
			a := server.do(r)
			if !strings.Contains(a.Body, fmt.Sprintf(`"microvmId":"vm-%d"`, i)) {
				t.Errorf("vm-%d got %s", i, a.Body)
			}
			if _, again := ids.LoadOrStore(a.Header.Get("x-amzn-requestid"), i); again {
				t.Error("a request id was used twice")
			}
		})
	}
	group.Wait()
}

func TestTheClientReturnsTheServersErrors(t *testing.T) {
	sent := awsapi.QuotaExceeded("full").WithQuota("lambda", "L-1").WithRetryAfter(3 * time.Second)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/prefix" + listPath:
			_, _ = io.WriteString(w, `{"items":[{"microvmId":"m","startedAt":1790000000.5}],"nextToken":null,"new":1}`)
		case "/prefix" + vmPath:
			h := failing(sent)
			copyTo(h.do(newRequest(t, "GET", vmPath, "")), w)
		default:
			http.Error(w, "<html>", http.StatusBadGateway)
		}
	}))
	defer server.Close()
	c := client.New(server.URL+"/prefix/", "us-east-1", testKey, testSecret)

	list, err := c.ListMicrovms(t.Context(), &awsapi.ListMicrovmsInput{})
	require.NoError(t, err)
	require.Equal(t, "m", list.Items[0].MicrovmId)
	require.Equal(t, time.UnixMilli(1790000000500).UTC(), list.Items[0].StartedAt.Time)

	_, err = c.GetMicrovm(t.Context(), &awsapi.GetMicrovmInput{MicrovmIdentifier: "microvm-1"})
	var got *awsapi.Error
	require.ErrorAs(t, err, &got)
	require.Equal(t, awsapi.ServiceQuotaExceededException, got.Code)
	require.Equal(t, []any{"full", "lambda", "L-1", 3 * time.Second, 402}, []any{got.Message, got.ServiceCode, got.QuotaCode, got.RetryAfter, got.Status()})
	require.Len(t, got.RequestID, 36)

	_, err = c.SuspendMicrovm(t.Context(), &awsapi.SuspendMicrovmInput{MicrovmIdentifier: "x"})
	require.ErrorAs(t, err, &got)
	require.ErrorContains(t, err, "HTTP 502")

	require.ErrorContains(t, c.Do(t.Context(), "Nothing", nil, nil), `"Nothing"`)
}

func copyTo(a answer, w http.ResponseWriter) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.Status)
	_, _ = io.WriteString(w, a.Body)
}

func TestTheClientsRequestsPassTheAuthenticator(t *testing.T) {
	backend := getBackend{get: func(_ context.Context, in *awsapi.GetMicrovmInput) (*awsapi.GetMicrovmOutput, error) {
		return nil, awsapi.NotFound("MicroVM not found: %s", in.MicrovmIdentifier)
	}}
	server := httptest.NewServer(newServerNow(backend).handler)
	defer server.Close()
	c := client.New(server.URL, "us-east-1", testKey, testSecret)
	_, err := c.GetMicrovm(t.Context(), &awsapi.GetMicrovmInput{MicrovmIdentifier: "a/b c:d~é"})
	require.EqualError(t, err, "ResourceNotFoundException: MicroVM not found: a/b c:d~é")
	_, err = client.New(server.URL, "us-east-1", testKey, "wrong").GetMicrovm(t.Context(), &awsapi.GetMicrovmInput{MicrovmIdentifier: "a"})
	require.ErrorContains(t, err, "InvalidSignatureException")
	_, err = c.RunMicrovm(t.Context(), &awsapi.RunMicrovmInput{ImageIdentifier: "a"})
	require.ErrorContains(t, err, "The operation RunMicrovm is not available")
}
