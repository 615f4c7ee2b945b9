// Package awsapitest has what tests of the API need: the requests of spec/wire-examples.md, signed calls of a handler, and answers held against spec/model.json.
package awsapitest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"
)

// Signer signs requests as the SDKs do.
type Signer struct {
	Key, Secret string
	Region      string
	Service     string // of the credential scope
	At          time.Time
}

// Request is a signed request as a server receives it.
func (s Signer) Request(t testing.TB, method, target, body string) *http.Request {
	t.Helper()
	return s.RequestWithHash(t, method, target, body, Hash(body))
}

// RequestWithHash is Request with something else in the place of the body's hash; it is also sent
// in the header x-amz-content-sha256.
func (s Signer) RequestWithHash(t testing.TB, method, target, body, hash string) *http.Request {
	t.Helper()
	out := outgoing(t, method, target, body)
	if hash != Hash(body) {
		out.Header.Set("X-Amz-Content-Sha256", hash)
	}
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), s.keys(), out, hash, s.Service, s.Region, s.At))
	return received(t.Context(), method, target, body, out.Header)
}

// Presigned is a request whose signature is in its query and good for the given time.
func (s Signer) Presigned(t testing.TB, method, target, body string, expires string) *http.Request {
	t.Helper()
	out := outgoing(t, method, target, body)
	query := out.URL.Query()
	query.Set("X-Amz-Expires", expires)
	out.URL.RawQuery = query.Encode()
	signed, header, err := v4.NewSigner().PresignHTTP(t.Context(), s.keys(), out, Hash(body), s.Service, s.Region, s.At)
	require.NoError(t, err)
	header.Del("Host")
	return received(t.Context(), method, strings.TrimPrefix(signed, "http://"+host), body, header)
}

const host = "api.test"

func outgoing(t testing.TB, method, target, body string) *http.Request {
	t.Helper()
	out, err := http.NewRequestWithContext(t.Context(), method, "http://"+host, strings.NewReader(body))
	require.NoError(t, err)
	path, query, _ := strings.Cut(target, "?")
	out.URL = &url.URL{Scheme: "http", Opaque: "//" + host + path, RawQuery: query} // the path as it is
	return out
}

func received(ctx context.Context, method, target, body string, header http.Header) *http.Request {
	in := httptest.NewRequestWithContext(ctx, method, "/", strings.NewReader(body))
	in.RequestURI, in.Host, in.Header = target, host, header
	return in
}

func (s Signer) keys() aws.Credentials {
	return aws.Credentials{AccessKeyID: s.Key, SecretAccessKey: s.Secret}
}

// Hash is the hash of a body as signatures contain it.
func Hash(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// Answer is what a client receives.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Do sends a request to a handler.
func Do(handler http.Handler, r *http.Request) Answer {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body) // a recorder's body does not fail
	return Answer{w.Code, w.Result().Header, string(body)}
}

// JSON is the object an answer holds.
func (a Answer) JSON(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.Body), &v), a.Body)
	return v
}

// ErrorType is the name of the error an answer is.
func (a Answer) ErrorType() string { return a.Header.Get("x-amzn-errortype") }

// RequireError checks that an answer is this error, and that it has what every error has.
func (a Answer) RequireError(t testing.TB, status int, code, message string) {
	t.Helper()
	require.Equal(t, status, a.Status, a.Body)
	require.Equal(t, code, a.ErrorType(), a.Body)
	require.Equal(t, "application/json", a.Header.Get("content-type"))
	require.Len(t, a.Header.Get("x-amzn-requestid"), 36)
	v := a.JSON(t)
	text, ok := v["message"].(string)
	if !ok {
		text, _ = v["Message"].(string)
	}
	require.Equal(t, message, text)
}
