package sigv4

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

const (
	key     = "AKIDEXAMPLE"
	secret  = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	account = "123456789012"
	arnPath = "/2025-09-09/microvm-images/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Amicrovm-image%3Amy-image"
)

var now = time.Date(2026, 11, 23, 14, 51, 5, 0, time.UTC)

type keys map[string]string

func (k keys) Secret(_ context.Context, id string) (string, string, error) {
	if id == "BROKEN" {
		return "", "", errors.New("database is gone")
	}
	s, ok := k[id]
	if !ok {
		return "", "", ErrUnknownKey
	}
	return s, account, nil
}

func newVerifier() *Verifier {
	return &Verifier{Credentials: keys{key: secret}, Service: "lambda", Clock: clockwork.NewFakeClockAt(now)}
}

func hash(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// signed is a request as a server receives it, signed by the SDK's signer.
type signed struct {
	method, target, body string
	key, secret, service string
	at                   time.Time
	header               http.Header
}

func (s signed) request(t testing.TB) *http.Request {
	t.Helper()
	out, err := http.NewRequest(s.method, "http://api.test:7070"+s.target, strings.NewReader(s.body))
	require.NoError(t, err)
	for name, values := range s.header {
		out.Header[name] = values
	}
	keys := aws.Credentials{AccessKeyID: s.key, SecretAccessKey: s.secret}
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), keys, out, hash(s.body), s.service, "us-east-1", s.at))

	in := httptest.NewRequest(s.method, s.target, strings.NewReader(s.body))
	in.RequestURI = s.target
	in.Host = out.URL.Host
	in.Header = out.Header
	return in
}

func good() signed {
	return signed{method: "GET", target: arnPath, key: key, secret: secret, service: "lambda", at: now}
}

func verify(v *Verifier, r *http.Request, body string) (*Claim, error) {
	c, err := v.Claim(r)
	if err != nil {
		return nil, err
	}
	return c, c.Prove(r, hash(body))
}

func TestRequestsSignedByTheSDKAreAccepted(t *testing.T) {
	for name, s := range map[string]signed{
		"path with an ARN":        {method: "GET", target: arnPath},
		"body":                    {method: "POST", target: "/2025-09-09/microvms", body: `{"a":"ü"}`, header: http.Header{"Content-Type": {"application/json"}}},
		"query":                   {method: "GET", target: "/2025-09-09/microvm-images?maxResults=10&nameFilter=my%20img&nextToken=abc_-x%3D%3D"},
		"repeated query":          {method: "DELETE", target: "/2017-03-31/tags/x?tagKeys=team&tagKeys=a%20b"},
		"no path":                 {method: "GET", target: "/"},
		"encoded slash and space": {method: "GET", target: "/2025-09-09/microvms/a%2Fb%20c%3Ad~%C3%A9"},
		"spaces in a header":      {method: "GET", target: "/", header: http.Header{"X-Amz-Meta": {"  a   b "}}},
	} {
		s.key, s.secret, s.service, s.at = key, secret, "lambda", now
		c, err := verify(newVerifier(), s.request(t), s.body)
		require.NoError(t, err, name)
		require.Equal(t, account, c.AccountID)
		require.Equal(t, "us-east-1", c.Region)
		require.Equal(t, key, c.AccessKeyID)
	}
}

func TestTheDoubleEncodedPathIsTheOneThatCounts(t *testing.T) {
	r := good().request(t)
	again := &http.Request{Method: "GET", Host: r.Host, Header: http.Header{}, URL: &url.URL{Opaque: "//host" + arnPath}}
	single := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	require.NoError(t, single.SignHTTP(t.Context(), aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, again, hash(""), "lambda", "us-east-1", now))
	r.Header = again.Header
	_, err := verify(newVerifier(), r, "")
	requireRefusal(t, err, "InvalidSignatureException", "does not match")
}

func TestAPathSignedWithoutItsEmptySegmentsIsAccepted(t *testing.T) {
	s := good()
	s.method, s.target = "POST", "/2025-09-09/microvms/suspend"
	r := s.request(t)
	r.RequestURI = "/2025-09-09/microvms//suspend"
	_, err := verify(newVerifier(), r, "")
	require.NoError(t, err)
}

func TestAllSecondsOfTheAllowedSkewAreAccepted(t *testing.T) {
	for _, skew := range []time.Duration{-MaxSkew, MaxSkew} {
		s := good()
		s.at = now.Add(skew)
		_, err := verify(newVerifier(), s.request(t), "")
		require.NoError(t, err, skew)
	}
}

func requireRefusal(t *testing.T, err error, code, text string) {
	t.Helper()
	var refusal *Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, code, refusal.Code)
	require.Contains(t, refusal.Message, text)
}

func TestBadRequestsAreRefusedWithTheNamesClientsKnow(t *testing.T) {
	const incompleteName, invalidName, unknownName = "IncompleteSignatureException", "InvalidSignatureException", "UnrecognizedClientException"
	authorize := func(edit func(string) string) func(*signed, *http.Request) {
		return func(_ *signed, r *http.Request) {
			r.Header.Set("Authorization", edit(r.Header.Get("Authorization")))
		}
	}
	replace := func(old, with string) func(*signed, *http.Request) {
		return authorize(func(s string) string { return strings.Replace(s, old, with, 1) })
	}
	for _, c := range []struct {
		name       string
		sign       func(*signed)
		edit       func(*signed, *http.Request)
		code, text string
	}{
		{"no header", nil, func(_ *signed, r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationTokenException", "Missing"},
		{"two headers", nil, func(_ *signed, r *http.Request) { r.Header.Add("Authorization", "x") }, incompleteName, "more than one signature"},
		{"bearer token", nil, authorize(func(string) string { return "Bearer abc" }), incompleteName, "algorithm"},
		{"asymmetric algorithm", nil, replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), incompleteName, "algorithm"},
		{"algorithm only", nil, authorize(func(string) string { return "AWS4-HMAC-SHA256" }), incompleteName, "parameter"},
		{"no credential", nil, replace("Credential=", "X="), incompleteName, "'Credential'"},
		{"no signature", nil, replace("Signature=", "X="), incompleteName, "'Signature'"},
		{"no signed headers", nil, replace("SignedHeaders=", "X="), incompleteName, "'SignedHeaders'"},
		{"credential given twice", nil, replace("SignedHeaders=", "Credential="), incompleteName, "malformed"},
		{"short credential", nil, replace("/aws4_request", ""), incompleteName, "5 slash"},
		{"wrong terminator", nil, replace("/aws4_request", "/aws5_request"), invalidName, "terminator"},
		{"strange region", nil, replace("us-east-1", "US_EAST"), invalidName, "region"},
		{"other region", nil, replace("us-east-1", "us-east-2"), invalidName, "does not match"},
		{"host not signed", nil, replace("host;", ""), invalidName, "Host"},
		{"header name with a space", nil, replace("host;", "host;a b;"), incompleteName, "SignedHeaders"},
		{"signature not hexadecimal", nil, replace("Signature=", "Signature=zz"), incompleteName, "hexadecimal"},
		{"too long", nil, authorize(func(s string) string { return s + strings.Repeat(" ", maxHeader) }), incompleteName, "too long"},
		{"no date", nil, func(_ *signed, r *http.Request) { r.Header.Del("X-Amz-Date") }, incompleteName, "X-Amz-Date"},
		{"bad date", nil, func(_ *signed, r *http.Request) { r.Header.Set("X-Amz-Date", "Mon, 23 Nov 2026") }, incompleteName, "ISO-8601"},
		{"date of another day", nil, func(_ *signed, r *http.Request) { r.Header.Set("X-Amz-Date", "20261124T000000Z") }, invalidName, "scope"},
		{"another time than signed", nil, func(_ *signed, r *http.Request) { r.Header.Set("X-Amz-Date", "20261123T145106Z") }, invalidName, "does not match"},
		{"expired", func(s *signed) { s.at = now.Add(-MaxSkew - time.Second) }, nil, invalidName, "Signature expired: 20261123T143604Z is now earlier than 20261123T143605Z (20261123T145105Z - 15 min.)"},
		{"from the future", func(s *signed) { s.at = now.Add(MaxSkew + time.Second) }, nil, invalidName, "Signature not yet current"},
		{"another service", func(s *signed) { s.service = "s3" }, nil, invalidName, "'lambda'"},
		{"unknown key", func(s *signed) { s.key = "AKIDOTHER" }, nil, unknownName, "security token"},
		{"wrong secret", func(s *signed) { s.secret = "other" }, nil, invalidName, "does not match"},
		{"session token", nil, func(_ *signed, r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, unknownName, "security token"},
		{"another method", nil, func(_ *signed, r *http.Request) { r.Method = "DELETE" }, invalidName, "does not match"},
		{"another path", nil, func(_ *signed, r *http.Request) { r.RequestURI += "x" }, invalidName, "does not match"},
		{"another query", nil, func(_ *signed, r *http.Request) { r.RequestURI += "?a=b" }, invalidName, "does not match"},
		{"another host", nil, func(_ *signed, r *http.Request) { r.Host = "evil.test" }, invalidName, "does not match"},
		{"another signed header", func(s *signed) { s.header = http.Header{"Content-Type": {"a"}} }, func(_ *signed, r *http.Request) { r.Header.Set("Content-Type", "b") }, invalidName, "does not match"},
		{"another body", nil, func(s *signed, _ *http.Request) { s.body = "{}" }, invalidName, "does not match"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := good()
			if c.sign != nil {
				c.sign(&s)
			}
			r := s.request(t)
			if c.edit != nil {
				c.edit(&s, r)
			}
			_, err := verify(newVerifier(), r, s.body)
			requireRefusal(t, err, c.code, c.text)
		})
	}
}

func TestAFailedLookUpIsNotTakenForAnUnknownKey(t *testing.T) {
	s := good()
	s.key = "BROKEN"
	_, err := verify(newVerifier(), s.request(t), "")
	var refusal *Error
	require.False(t, errors.As(err, &refusal))
	require.ErrorContains(t, err, "database is gone")
}

func TestAReplacedSecretCountsAtOnce(t *testing.T) {
	credentials := keys{key: secret}
	v := &Verifier{Credentials: credentials, Service: "lambda", Clock: clockwork.NewFakeClockAt(now)}
	_, err := verify(v, good().request(t), "")
	require.NoError(t, err)
	credentials[key] = "replaced"
	_, err = verify(v, good().request(t), "")
	requireRefusal(t, err, "InvalidSignatureException", "does not match")
}

func TestTheTargetIsWhatWasSent(t *testing.T) {
	for uri, want := range map[string][2]string{
		"/a%2Fb\"?x=%3D":           {"/a%2Fb\"", "x=%3D"},
		"//a":                      {"//a", ""},
		"/a?u=http://x/y":          {"/a", "u=http://x/y"},
		"http://api.test/a%2F?b=c": {"/a%2F", "b=c"},
		"*":                        {"*", ""},
	} {
		path, query := Target(&http.Request{RequestURI: uri})
		require.Equal(t, want, [2]string{path, query}, uri)
	}
}

func FuzzStrangersHeadersAreRefusedWithoutAPanic(f *testing.F) {
	r := good().request(f)
	f.Add(r.Header.Get("Authorization"), "20261123T145105Z", arnPath)
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=;;host,Signature=", "", "*")
	f.Add(strings.Replace(r.Header.Get("Authorization"), "host;", "host;content-length;x;", 1), "20261123T145105Z", "/%zz?%zz")
	f.Fuzz(func(t *testing.T, authorization, date, target string) {
		in := &http.Request{Method: "GET", Host: "h", RequestURI: target, Header: http.Header{"Authorization": {authorization}, "X-Amz-Date": {date}}}
		if _, err := verify(newVerifier(), in, ""); err == nil {
			t.Errorf("accepted %q at %q for %q", authorization, date, target)
		}
	})
}
