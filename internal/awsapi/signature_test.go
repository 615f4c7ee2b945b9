package awsapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/awsapitest"
)

// with is testSigner with a change.
func with(change func(*awsapitest.Signer)) awsapitest.Signer {
	s := testSigner
	change(&s)
	return s
}

const (
	badSignature = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	badToken     = "The security token included in the request is invalid."
	badHash      = "The header x-amz-content-sha256 is not the SHA-256 of the request body."
)

func TestBadSignaturesAreRefusedWithNamesThatSDKsKnow(t *testing.T) {
	const incomplete, invalid = "IncompleteSignatureException", "InvalidSignatureException"
	at := func(shift time.Duration) awsapitest.Signer {
		return with(func(s *awsapitest.Signer) { s.At = testTime.Add(shift) })
	}
	get := func(s awsapitest.Signer) *http.Request { return s.Request(t, "GET", vmPath, "") }
	edited := func(edit func(*http.Request)) *http.Request {
		r := get(testSigner)
		edit(r)
		return r
	}
	authorization := func(old, with string) *http.Request {
		return edited(func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, with, 1))
		})
	}
	for name, c := range map[string]struct {
		r          *http.Request
		code, text string
	}{
		"unknown key":      {get(with(func(s *awsapitest.Signer) { s.Key = "AKIDOTHER" })), "UnrecognizedClientException", badToken},
		"session token":    {edited(func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }), "UnrecognizedClientException", badToken},
		"wrong secret":     {get(with(func(s *awsapitest.Signer) { s.Secret = "other" })), invalid, badSignature},
		"changed path":     {edited(func(r *http.Request) { r.RequestURI += "2" }), invalid, badSignature},
		"changed query":    {edited(func(r *http.Request) { r.RequestURI += "?a=b" }), invalid, badSignature},
		"changed method":   {edited(func(r *http.Request) { r.Method = "DELETE" }), invalid, badSignature},
		"clock behind":     {get(at(-15*time.Minute - time.Second)), invalid, "Signature expired: 20261123T143604Z is now earlier than 20261123T143605Z (20261123T145105Z - 15 min.)"},
		"clock ahead":      {get(at(15*time.Minute + time.Second)), invalid, "Signature not yet current: 20261123T150606Z is still later than 20261123T150605Z (20261123T145105Z + 15 min.)"},
		"other service":    {get(with(func(s *awsapitest.Signer) { s.Service = "execute-api" })), invalid, "Credential should be scoped to correct service: 'lambda'."},
		"other region":     {authorization("us-east-1", "eu-west-1"), invalid, badSignature},
		"scope of a day":   {authorization("/20261123/", "/20261124/"), invalid, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20261124' != '20261123', from '20261123T145105Z'."},
		"no authorization": {edited(func(r *http.Request) { r.Header.Del("Authorization") }), "MissingAuthenticationTokenException", "Missing Authentication Token"},
		"no date":          {edited(func(r *http.Request) { r.Header.Del("X-Amz-Date") }), incomplete, "Authorization header requires existence of a 'X-Amz-Date' header."},
		"host not signed":  {authorization("host;", ""), invalid, "'Host' must be a 'SignedHeader' in the AWS Authorization."},
		"other host":       {edited(func(r *http.Request) { r.Host = "evil.test" }), invalid, badSignature},
		"no signature":     {authorization("Signature=", "X="), incomplete, "Authorization header requires 'Signature' parameter."},
		"other algorithm":  {authorization("AWS4-HMAC-SHA256", "Bearer"), incomplete, "Unsupported AWS 'algorithm'; the Authorization header must begin with 'AWS4-HMAC-SHA256'."},
		"hash of another body": {
			testSigner.RequestWithHash(t, "POST", listPath, `{"imageIdentifier":"a"}`, awsapitest.Hash("other")), invalid, badHash,
		},
		"body not hashed":   {testSigner.RequestWithHash(t, "POST", listPath, `{"imageIdentifier":"a"}`, "UNSIGNED-PAYLOAD"), invalid, badHash},
		"body in chunks":    {testSigner.RequestWithHash(t, "POST", listPath, `{}`, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), invalid, badHash},
		"presigned, old":    {at(-time.Minute-time.Second).Presigned(t, "GET", vmPath, "", "60"), invalid, "Signature expired: 20261123T145004Z is now earlier than 20261123T145005Z (20261123T145105Z - 60 sec.)"},
		"presigned, early":  {at(15*time.Minute+time.Second).Presigned(t, "GET", vmPath, "", "60"), invalid, "Signature not yet current: 20261123T150606Z is still later than 20261123T150605Z (20261123T145105Z + 15 min.)"},
		"presigned, week+1": {testSigner.Presigned(t, "GET", vmPath, "", "604801"), incomplete, "X-Amz-Expires must be a number of seconds from 1 to 604800."},
		"presigned, key":    {with(func(s *awsapitest.Signer) { s.Key = "AKIDOTHER" }).Presigned(t, "GET", vmPath, "", "60"), "UnrecognizedClientException", badToken},
		"presigned twice": {
			edited(func(r *http.Request) { r.RequestURI = testSigner.Presigned(t, "GET", vmPath, "", "60").RequestURI }), incomplete, "The request has more than one signature.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := failing(errors.New("reached"))
			a := server.do(c.r)
			requireError(t, a, 403, awsapi.ErrorCode(c.code), c.text)
			require.Empty(t, server.log.String())
		})
	}
}

func TestAPresignedRequestIsForOneOperationOnly(t *testing.T) {
	var called []string
	server := newServer(recorder{called: &called})
	good := testSigner.Presigned(t, "POST", vmPath+"/suspend", "", "300")
	require.Equal(t, 200, server.do(good).Status)
	require.Equal(t, []string{"suspend"}, called)
	for name, edit := range map[string]func(*http.Request){
		"resume": func(r *http.Request) { r.RequestURI = strings.Replace(r.RequestURI, "/suspend", "/resume", 1) },
		"terminate": func(r *http.Request) {
			r.Method, r.RequestURI = "DELETE", strings.Replace(r.RequestURI, "/suspend", "", 1)
		},
		"other VM": func(r *http.Request) { r.RequestURI = strings.Replace(r.RequestURI, "microvm-1", "microvm-2", 1) },
	} {
		r := testSigner.Presigned(t, "POST", vmPath+"/suspend", "", "300")
		edit(r)
		requireError(t, server.do(r), 403, awsapi.InvalidSignatureException, badSignature)
		require.Len(t, called, 1, name)
	}
}

// recorder says which change of state was asked for.
type recorder struct {
	awsapi.UnimplementedBackend
	called *[]string
}

func (r recorder) SuspendMicrovm(context.Context, *awsapi.SuspendMicrovmInput) (*awsapi.SuspendMicrovmOutput, error) {
	*r.called = append(*r.called, "suspend")
	return &awsapi.SuspendMicrovmOutput{}, nil
}

func TestTheRegionIsThatOfTheSignature(t *testing.T) {
	var regions []string
	server := newServer(getBackend{get: func(ctx context.Context, _ *awsapi.GetMicrovmInput) (*awsapi.GetMicrovmOutput, error) {
		regions = append(regions, awsapi.CallerFrom(ctx).Region)
		return &awsapi.GetMicrovmOutput{}, nil
	}})
	ireland := with(func(s *awsapitest.Signer) { s.Region = "eu-west-1" })
	for _, r := range []*http.Request{
		newRequest(t, "GET", vmPath, ""), ireland.Request(t, "GET", vmPath, ""), ireland.Presigned(t, "GET", vmPath, "", "60"),
	} {
		require.Equal(t, 200, server.do(r).Status)
	}
	require.Equal(t, []string{"us-east-1", "eu-west-1", "eu-west-1"}, regions)
}

func TestAnUnsignedRequestToLambdaCoreIsRefusedTheSameWay(t *testing.T) {
	r := httptest.NewRequest("GET", "/2026-04-04/network-connectors", nil)
	requireError(t, failing(nil).do(r), 403, awsapi.MissingAuthenticationTokenException, "Missing Authentication Token")
}
