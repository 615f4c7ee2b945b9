package metadata

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

const roleARN = "arn:aws:iam::000000000000:role/app"

// made is a role whose credentials a test chooses.
type made struct {
	have aws.Credentials
	at   time.Time
	err  error
}

func (m *made) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if ctx.Err() != nil {
		return aws.Credentials{}, ctx.Err()
	}
	return m.have, m.err
}
func (m *made) Made() time.Time { return m.at }

// guest asks a service.
type guest struct {
	*Service
	t     *testing.T
	clock *clockwork.FakeClock
	role  *made
	log   bytes.Buffer
}

func newGuest(t *testing.T) *guest {
	g := &guest{t: t, clock: clockwork.NewFakeClockAt(time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC))}
	g.role = &made{at: g.clock.Now(), have: aws.Credentials{
		AccessKeyID: "ASIA", SecretAccessKey: "hush", SessionToken: "session-hush", CanExpire: true, Expires: g.clock.Now().Add(55 * time.Minute),
	}}
	g.Service = New(Config{Region: "eu-west-1", Role: roleARN, Credentials: g.role, Clock: g.clock, Log: slog.New(slog.NewTextHandler(&g.log, nil))})
	return g
}

// ask sends a request with headers given as name and value in turn.
func (g *guest) ask(method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(g.t.Context(), method, path, http.NoBody)
	r.Host = "169.254.169.254"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

func (g *guest) token(seconds string) string {
	g.t.Helper()
	w := g.ask("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", seconds)
	require.Equal(g.t, 200, w.Code)
	require.Equal(g.t, seconds, w.Header().Get("X-aws-ec2-metadata-token-ttl-seconds"))
	require.Regexp(g.t, `^[A-Za-z0-9_-]{54}$`, w.Body.String())
	return w.Body.String()
}

func (g *guest) get(path string) *httptest.ResponseRecorder {
	return g.ask("GET", path, "X-aws-ec2-metadata-token", g.token("60"))
}

func TestTheTreeIsTheOneOfTheService(t *testing.T) {
	g := newGuest(t)
	for path, want := range map[string]string{
		"/":                                   "latest/",
		"/latest":                             "meta-data/",
		"/latest/meta-data":                   "iam/\nplacement/\ntags/",
		"/latest/meta-data/":                  "iam/\nplacement/\ntags/",
		"/latest/meta-data/iam/":              "info\nsecurity-credentials/",
		"/latest/meta-data/placement/":        "availability-zone-id\nregion",
		"/latest/meta-data/placement/region":  "eu-west-1",
		"/latest/meta-data/placement/region/": "eu-west-1",
		"/latest/meta-data/placement/availability-zone-id": "euw1-az1",
		"/latest/meta-data/tags/":                          "instance/",
		"/latest/meta-data/tags/instance/":                 "",
		"/latest/meta-data/iam/security-credentials":       "execution_role",
		"/latest/meta-data/iam/security-credentials/":      "execution_role",
		"/latest/meta-data/iam/info": `{
  "Code": "Success",
  "LastUpdated": "2030-01-02T03:04:05Z",
  "InstanceProfileArn": "` + roleARN + `",
  "InstanceProfileId": "execution_role"
}`,
		"/latest/meta-data/iam/security-credentials/execution_role": `{
  "Code": "Success",
  "LastUpdated": "2030-01-02T03:04:05Z",
  "Type": "AWS-HMAC",
  "AccessKeyId": "ASIA",
  "SecretAccessKey": "hush",
  "Token": "session-hush",
  "Expiration": "2030-01-02T03:59:05Z"
}`,
	} {
		w := g.get(path)
		require.Equal(t, 200, w.Code, path)
		require.Equal(t, want, w.Body.String(), path)
		require.Equal(t, "text/plain", w.Header().Get("Content-Type"))
		require.Equal(t, "EC2ws", w.Header().Get("Server"))
		require.Equal(t, 200, g.ask("HEAD", path, "X-aws-ec2-metadata-token", g.token("1")).Code)
	}
	for _, path := range []string{
		"/latest/meta-data/none", "/latest/meta-data/placement/region/x", "//latest", "/latest//meta-data", "/latest/meta-data//",
		"/latest/meta-data/../meta-data/", "/latest/user-data", "/1.0/meta-data/", "/latest/dynamic/instance-identity/document",
		"/latest/meta-data/iam/security-credentials/other", "/latest/api", "/latest/api/token/",
	} {
		require.Equal(t, 404, g.get(path).Code, path)
	}
	require.Empty(t, g.log.String())
}

func TestWithoutARoleThereAreNoCredentials(t *testing.T) {
	g := newGuest(t)
	g.Service = New(Config{Region: "us-east-1", Clock: g.clock})
	require.Equal(t, "placement/\ntags/", g.get("/latest/meta-data/").Body.String())
	for _, path := range []string{"", "info", "security-credentials", "security-credentials/", "security-credentials/execution_role"} {
		require.Equal(t, 404, g.get("/latest/meta-data/iam/"+path).Code)
	}
}

func TestNothingIsToldWithoutAToken(t *testing.T) {
	g := newGuest(t)
	good := g.token("60")
	other := newGuest(t).token("60")
	for _, token := range []string{"", "x", other, good + "A", good[:53], "A" + good[1:], good[:53] + "=", strings.ToLower(good), strings.Repeat("A", 54), strings.Repeat("A", 1<<20)} {
		for _, path := range []string{"/", "/latest/meta-data/", "/none", "/latest/meta-data/iam/security-credentials/execution_role"} {
			w := g.ask("GET", path, "X-aws-ec2-metadata-token", token)
			require.Equal(t, 401, w.Code, token)
			require.NotContains(t, w.Body.String(), "hush")
		}
	}
	require.Equal(t, 401, g.ask("GET", "/latest/meta-data/").Code)
	require.Equal(t, 200, g.ask("GET", "/latest/meta-data/", "X-aws-ec2-metadata-token", good).Code)
}

func TestATokenLivesAsLongAsItWasAskedFor(t *testing.T) {
	g := newGuest(t)
	for seconds, life := range map[string]time.Duration{"1": time.Second, "21600": 6 * time.Hour} {
		token := g.token(seconds)
		g.clock.Advance(life - time.Nanosecond)
		require.Equal(t, 200, g.ask("GET", "/", "X-aws-ec2-metadata-token", token).Code)
		g.clock.Advance(time.Nanosecond)
		require.Equal(t, 401, g.ask("GET", "/", "X-aws-ec2-metadata-token", token).Code)
	}
}

func TestTokensAreRefusedToBadRequests(t *testing.T) {
	g := newGuest(t)
	const ttl = "X-aws-ec2-metadata-token-ttl-seconds"
	require.Equal(t, 400, g.ask("PUT", "/latest/api/token").Code)
	for _, seconds := range []string{"", "0", "-1", "21601", "99999", "1e3", "0x10", " 1", "+1", "1.5", "999999999999999999999"} {
		require.Equal(t, 400, g.ask("PUT", "/latest/api/token", ttl, seconds).Code, seconds)
	}
	require.Equal(t, 400, g.ask("PUT", "/latest/api/token", ttl, "60", ttl, "60").Code)
	require.Equal(t, 403, g.ask("PUT", "/latest/api/token", ttl, "60", "X-Forwarded-For", "").Code)
	require.Equal(t, 403, g.ask("PUT", "/latest/api/token", ttl, "60", "X-Forwarded-For", "10.0.2.15").Code)
}

func TestAPageWhoseHostTakesTheServicesAddressGetsNoToken(t *testing.T) {
	g := newGuest(t)
	for host, want := range map[string]int{
		"169.254.169.254": 200, "169.254.169.254:80": 200, "": 200,
		"evil.example": 403, "evil.example:80": 403, "localhost": 403, "169.254.169.254.evil.example": 403, "169.254.169.254:": 403,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, tokenPath, http.NoBody)
		r.Host = host
		r.Header.Set(ttlHeader, "60")
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, host)
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	g := newGuest(t)
	for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS", "TRACE", "X"} {
		w := g.ask(method, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
		require.Equal(t, 405, w.Code, method)
		require.Equal(t, "PUT", w.Header().Get("Allow"))
	}
	for _, method := range []string{"PUT", "POST", "DELETE", "OPTIONS", "PATCH"} {
		w := g.ask(method, "/latest/meta-data/", "X-aws-ec2-metadata-token", g.token("60"))
		require.Equal(t, 405, w.Code, method)
		require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
	}
}

func TestWhyCredentialsCannotBeHadIsLoggedOnceAndNotTold(t *testing.T) {
	g := newGuest(t)
	const path = "/latest/meta-data/iam/security-credentials/execution_role"
	have := g.role.have
	for range 2 {
		g.role.have, g.role.err = aws.Credentials{}, errors.New("the cause")
		for range 3 {
			w := g.get(path)
			require.Equal(t, 503, w.Code)
			require.NotContains(t, w.Body.String(), "cause")
			require.Equal(t, 503, g.get("/latest/meta-data/iam/info").Code)
		}
		require.Equal(t, 1, strings.Count(g.log.String(), "the cause"), g.log.String())
		require.Contains(t, g.log.String(), roleARN)
		g.log.Reset()
		g.role.have, g.role.err = have, nil
		require.Equal(t, 200, g.get(path).Code)
	}
	require.Empty(t, g.log.String())
}

func TestAReasonThatIsWordedAnewEachTimeDoesNotFillTheLog(t *testing.T) {
	g := newGuest(t)
	for i := range 3 {
		for range 5 {
			g.role.err = fmt.Errorf("RequestID %d", g.clock.Now().UnixNano())
			require.Equal(t, 503, g.get("/latest/meta-data/iam/info").Code)
			g.clock.Advance(time.Second)
		}
		require.Equal(t, i+1, strings.Count(g.log.String(), "RequestID"))
		g.clock.Advance(repeatAfter)
	}
}

func TestTheSDKGetsCredentialsAndTheRegion(t *testing.T) {
	g := newGuest(t)
	server := httptest.NewServer(g)
	defer server.Close()
	client := imds.New(imds.Options{Endpoint: server.URL, EnableFallback: aws.FalseTernary})
	got, err := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }).Retrieve(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"ASIA", "hush", "session-hush"}, []string{got.AccessKeyID, got.SecretAccessKey, got.SessionToken})
	info, err := client.GetIAMInfo(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, roleARN, info.InstanceProfileArn)
	region, err := client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: "placement/region"})
	require.NoError(t, err)
	content, err := io.ReadAll(region.Content)
	require.NoError(t, err)
	require.Equal(t, "eu-west-1", string(content))
}

func TestZonesAreNamedAsOnAWS(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1": "use1-az1", "us-west-2": "usw2-az1", "eu-central-1": "euc1-az1", "ap-northeast-1": "apne1-az1",
		"ap-southeast-2": "apse2-az1", "ap-south-1": "aps1-az1", "me-central-1": "mec1-az1", "us-gov-west-1": "usgw1-az1",
		"local": "local-az1", "": "-az1", "a--1": "a1-az1",
	} {
		require.Equal(t, want, zoneID(region), region)
	}
}

func FuzzService(f *testing.F) {
	f.Add("PUT", "/latest/api/token", ttlHeader, "21600")
	f.Add("GET", "/latest/meta-data/iam/security-credentials/execution_role", tokenHeader, "AAAA")
	f.Add("HEAD", "/latest/%2e%2e/", tokenHeader, "\x00")
	f.Fuzz(func(t *testing.T, method, path, header, value string) {
		at, err := url.Parse(path)
		if err != nil {
			return
		}
		g := newGuest(t)
		w := httptest.NewRecorder()
		g.ServeHTTP(w, &http.Request{Method: method, URL: at, Header: http.Header{http.CanonicalHeaderKey(header): {value}}})
		require.Less(t, w.Code, 500)
		require.NotContains(t, w.Body.String(), "hush")
		if w.Code == 200 {
			require.True(t, g.tokens.valid(w.Body.String()))
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add("AAAA", int64(60))
	f.Fuzz(func(t *testing.T, token string, seconds int64) {
		tokens := newTokens(clockwork.NewFakeClock())
		require.False(t, tokens.valid(token))
		life := time.Duration(uint64(seconds)%21600+1) * time.Second
		require.True(t, tokens.valid(tokens.make(life)))
	})
}
