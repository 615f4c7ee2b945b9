package sigv4

import (
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

// presignedRequest is s with its signature in the query, as a server receives it.
func (s signed) presignedRequest(t testing.TB, expires string) *http.Request {
	t.Helper()
	out, err := http.NewRequest(s.method, "http://api.test:7070"+s.target, strings.NewReader(s.body))
	require.NoError(t, err)
	values := out.URL.Query()
	values.Set(queryExpires, expires)
	out.URL.RawQuery = values.Encode()
	keys := aws.Credentials{AccessKeyID: s.key, SecretAccessKey: s.secret}
	target, header, err := v4.NewSigner().PresignHTTP(t.Context(), keys, out, hash(s.body), s.service, "us-east-1", s.at)
	require.NoError(t, err)
	header.Del("Host")
	in := httptest.NewRequest(s.method, "/", strings.NewReader(s.body))
	in.RequestURI, in.Host, in.Header = strings.TrimPrefix(target, "http://api.test:7070"), "api.test:7070", header
	return in
}

func TestPresignedRequestsAreAcceptedAsLongAsTheySay(t *testing.T) {
	for name, s := range map[string]signed{
		"path with an ARN": {method: "GET", target: arnPath},
		"query":            {method: "GET", target: "/2025-09-09/microvm-images?maxResults=10&nextToken=abc_-x%3D%3D&a=b&a=a"},
		"body":             {method: "POST", target: "/2025-09-09/microvms", body: `{"a":"ü"}`},
	} {
		for _, age := range []time.Duration{0, time.Hour, -MaxSkew} {
			s.key, s.secret, s.service, s.at = key, secret, "lambda", now.Add(-age)
			c, err := verify(newVerifier(), s.presignedRequest(t, "3600"), s.body)
			require.NoError(t, err, name)
			require.Equal(t, account, c.AccountID)
			require.Equal(t, "us-east-1", c.Region)
		}
	}
}

func TestBadPresignedRequestsAreRefused(t *testing.T) {
	const incompleteName, invalidName, unknownName = "IncompleteSignatureException", "InvalidSignatureException", "UnrecognizedClientException"
	change := func(edit func(url.Values)) func(*http.Request) {
		return func(r *http.Request) {
			path, query, _ := strings.Cut(r.RequestURI, "?")
			values, err := url.ParseQuery(query)
			require.NoError(t, err)
			edit(values)
			r.RequestURI = path + "?" + values.Encode()
		}
	}
	set := func(name, value string) func(*http.Request) {
		return change(func(v url.Values) { v.Set(name, value) })
	}
	for name, c := range map[string]struct {
		sign       func(*signed)
		edit       func(*http.Request)
		code, text string
	}{
		"expired":            {func(s *signed) { s.at = now.Add(-61 * time.Second) }, nil, invalidName, "Signature expired: 20261123T145004Z is now earlier than 20261123T145005Z (20261123T145105Z - 60 sec.)"},
		"from the future":    {func(s *signed) { s.at = now.Add(MaxSkew + time.Second) }, nil, invalidName, "Signature not yet current"},
		"unknown key":        {func(s *signed) { s.key = "AKIDOTHER" }, nil, unknownName, "security token"},
		"wrong secret":       {func(s *signed) { s.secret = "other" }, nil, invalidName, "does not match"},
		"another service":    {func(s *signed) { s.service = "s3" }, nil, invalidName, "'lambda'"},
		"another method":     {nil, func(r *http.Request) { r.Method = "DELETE" }, invalidName, "does not match"},
		"another path":       {nil, func(r *http.Request) { r.RequestURI = strings.Replace(r.RequestURI, "my-image", "other", 1) }, invalidName, "does not match"},
		"another body":       {func(s *signed) { s.body = "x" }, nil, invalidName, "does not match"},
		"one more parameter": {nil, set("imageVersion", "2.0"), invalidName, "does not match"},
		"a longer life":      {nil, set(queryExpires, "3600"), invalidName, "does not match"},
		"endless life":       {nil, set(queryExpires, "604801"), incompleteName, "X-Amz-Expires"},
		"no life":            {nil, set(queryExpires, "0"), incompleteName, "X-Amz-Expires"},
		"negative life":      {nil, set(queryExpires, "-1"), incompleteName, "X-Amz-Expires"},
		"life no number":     {nil, set(queryExpires, "1h"), incompleteName, "X-Amz-Expires"},
		"no expires":         {nil, change(func(v url.Values) { v.Del(queryExpires) }), incompleteName, "'X-Amz-Expires'"},
		"no signature":       {nil, change(func(v url.Values) { v.Del(querySignature) }), incompleteName, "'X-Amz-Signature'"},
		"two signatures":     {nil, change(func(v url.Values) { v.Add(querySignature, "x") }), incompleteName, "'X-Amz-Signature'"},
		"no date":            {nil, change(func(v url.Values) { v.Del(queryDate) }), incompleteName, "'X-Amz-Date'"},
		"bad date":           {nil, set(queryDate, "today"), incompleteName, "ISO-8601"},
		"bad credential":     {nil, set(queryCredential, "a/b"), incompleteName, "5 slash"},
		"other algorithm":    {nil, set(queryAlgorithm, "AWS4-ECDSA-P256-SHA256"), incompleteName, "algorithm"},
		"host not signed":    {nil, set(querySignedHeaders, "date"), invalidName, "Host"},
		"bad signature":      {nil, set(querySignature, "zz"), incompleteName, "hexadecimal"},
		"session token":      {nil, set(querySecurityToken, "x"), unknownName, "security token"},
		"malformed query":    {nil, func(r *http.Request) { r.RequestURI += "&a=%zz" }, incompleteName, "malformed"},
		"also a header":      {nil, func(r *http.Request) { r.Header = good().request(t).Header }, incompleteName, "more than one signature"},
	} {
		t.Run(name, func(t *testing.T) {
			s := good()
			if c.sign != nil {
				c.sign(&s)
			}
			r := s.presignedRequest(t, "60")
			if c.edit != nil {
				c.edit(r)
			}
			_, err := verify(newVerifier(), r, "")
			requireRefusal(t, err, c.code, c.text)
		})
	}
}

func FuzzStrangersQueriesAreRefusedWithoutAPanic(f *testing.F) {
	_, query, _ := strings.Cut(good().presignedRequest(f, "60").RequestURI, "?")
	f.Add(strings.Replace(query, "Signature=", "Signature=0", 1))
	f.Add(strings.Replace(query, "Expires=60", "Expires=61", 1))
	f.Add(strings.Replace(query, "SignedHeaders=host", "SignedHeaders=content-length;host;x", 1))
	f.Add("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature&%zz&;")
	f.Fuzz(func(t *testing.T, query string) {
		in := &http.Request{Method: "GET", Host: "h", RequestURI: "/?" + query, Header: http.Header{}}
		if _, err := verify(newVerifier(), in, ""); err == nil {
			t.Errorf("accepted %q", query)
		}
	})
}
