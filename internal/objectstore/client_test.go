package objectstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"
)

func TestFetchFromTheEmbeddedStore(t *testing.T) {
	f := start(t, false)
	alice := f.client("ALICE")
	f.bucket(t, alice, "code")
	put(t, alice, "code", "dir/app.zip", "zip zip")
	c, err := NewClient(t.Context(), ClientConfig{Embedded: f.Server})
	require.NoError(t, err)

	var got bytes.Buffer
	n, err := c.Fetch(t.Context(), Reader{Account: "111111111111"}, "s3://code/dir/app.zip", &got, 7)
	require.NoError(t, err)
	require.Equal(t, int64(7), n)
	require.Equal(t, "zip zip", got.String())

	for _, refused := range []struct {
		account, uri string
		limit        int64
		reason       Reason
	}{
		{"222222222222", "s3://code/dir/app.zip", 7, AccessDenied},
		{"", "s3://code/dir/app.zip", 7, AccessDenied},
		{"111111111111", "s3://code/none", 7, NoSuchKey},
		{"111111111111", "s3://none/dir/app.zip", 7, NoSuchBucket},
		{"111111111111", "s3://code/dir/app.zip", 6, InvalidObject},
		{"111111111111", "https://code/dir/app.zip", 6, InvalidObject},
	} {
		got.Reset()
		_, err := c.Fetch(t.Context(), Reader{Account: refused.account}, refused.uri, &got, refused.limit)
		requireReason(t, err, refused.reason)
		require.Zero(t, got.Len())
	}
}

// keyOf makes the credentials of a role.
func keyOf(id, secret, session string) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(id, secret, session)
}

// noKey is a role whose credentials cannot be had.
type noKey struct{}

func (noKey) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("the STS is gone")
}

func TestTheCredentialsOfABuildRoleDecideWhatIsRead(t *testing.T) {
	f := start(t, false)
	alice := f.client("ALICE")
	f.bucket(t, alice, "code")
	put(t, alice, "code", "app.zip", "zip zip")
	embedded, err := NewClient(t.Context(), ClientConfig{Embedded: f.Server})
	require.NoError(t, err)
	external, err := NewClient(t.Context(), ClientConfig{Endpoint: f.web.URL, Region: "eu-west-1", PathStyle: true, AccessKeyID: "BOB", SecretAccessKey: "BOB-secret"})
	require.NoError(t, err)
	for name, c := range map[string]*Client{"embedded": embedded, "external": external} {
		t.Run(name, func(t *testing.T) {
			fetch := func(role aws.CredentialsProvider) (string, error) {
				var got bytes.Buffer
				_, err := c.Fetch(t.Context(), Reader{Account: "222222222222", Credentials: role}, "s3://code/app.zip", &got, 7)
				return got.String(), err
			}
			got, err := fetch(keyOf("ALICE", "ALICE-secret", ""))
			require.NoError(t, err)
			require.Equal(t, "zip zip", got)
			for _, other := range []aws.CredentialsProvider{keyOf("BOB", "BOB-secret", ""), keyOf("ALICE", "wrong-secret", ""), keyOf("MALLORY", "ALICE-secret", "")} {
				_, err := fetch(other)
				requireReason(t, err, AccessDenied)
				require.NotContains(t, err.Error(), "-secret")
			}
			_, err = fetch(noKey{})
			requireReason(t, err, AccessDenied)
			require.ErrorContains(t, err, "the STS is gone")
			var failed *FetchError
			require.ErrorAs(t, err, &failed)
			require.NotContains(t, failed.Message, "STS")
		})
	}
	_, err = embedded.Fetch(t.Context(), Reader{Credentials: keyOf("ALICE", "ALICE-secret", "session")}, "s3://code/app.zip", io.Discard, 7)
	requireReason(t, err, AccessDenied)
}

func requireReason(t *testing.T, err error, reason Reason) {
	t.Helper()
	var failed *FetchError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, reason, failed.Reason)
	require.NotEmpty(t, failed.Message)
}

func TestFetchFromAnExternalS3(t *testing.T) {
	f := start(t, false) // the S3 protocol, over HTTP
	alice := f.client("ALICE")
	f.bucket(t, alice, "code")
	put(t, alice, "code", "app.zip", "zip zip")
	fetch := func(key, uri string, limit int64) (string, error) {
		c, err := NewClient(t.Context(), ClientConfig{Endpoint: f.web.URL, Region: "eu-west-1", PathStyle: true, AccessKeyID: key, SecretAccessKey: key + "-secret"})
		require.NoError(t, err)
		var got bytes.Buffer
		_, err = c.Fetch(t.Context(), Reader{Account: "any"}, uri, &got, limit)
		return got.String(), err
	}
	got, err := fetch("ALICE", "s3://code/app.zip", 7)
	require.NoError(t, err)
	require.Equal(t, "zip zip", got)
	for _, refused := range []struct {
		key, uri string
		limit    int64
		reason   Reason
	}{
		{"BOB", "s3://code/app.zip", 7, AccessDenied},
		{"MALLORY", "s3://code/app.zip", 7, AccessDenied},
		{"ALICE", "s3://code/none", 7, NoSuchKey},
		{"ALICE", "s3://none/app.zip", 7, NoSuchBucket},
		{"ALICE", "s3://code/app.zip", 6, InvalidObject},
	} {
		_, err := fetch(refused.key, refused.uri, refused.limit)
		requireReason(t, err, refused.reason)
	}
}

func TestAnswersOfAWSBecomeReasons(t *testing.T) {
	for _, answer := range []struct {
		status int
		body   string
		reason Reason
	}{
		{301, "<Error><Code>PermanentRedirect</Code></Error>", CrossRegionAccessDenied},
		{301, "", CrossRegionAccessDenied},
		{400, "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>", CrossRegionAccessDenied},
		{403, "<Error><Code>InvalidObjectState</Code></Error>", InvalidObject},
		{403, "<html>no</html>", AccessDenied},
	} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(answer.status)
			_, _ = w.Write([]byte(answer.body))
		}))
		c, err := NewClient(t.Context(), ClientConfig{Endpoint: web.URL, Region: "eu-west-1", PathStyle: true, AccessKeyID: "k", SecretAccessKey: "s"})
		require.NoError(t, err)
		_, err = c.Fetch(t.Context(), Reader{Account: "any"}, "s3://code/app.zip", &bytes.Buffer{}, 7)
		requireReason(t, err, answer.reason)
		web.Close()
	}
}

func TestParseURI(t *testing.T) {
	bucket, key, err := ParseURI("s3://my.bucket/a/b c/")
	require.NoError(t, err)
	require.Equal(t, "my.bucket", bucket)
	require.Equal(t, "a/b c/", key)
	for _, uri := range []string{"", "s3://", "s3://b/k", "s3://bucket", "s3://bucket/", "S3://bucket/k", "s3://Bucket/k", "s3://bucket/" + strings.Repeat("k", 1025), "s3://bucket/\xff", "s3://bu_cket/k", "https://s3.amazonaws.com/bucket/k"} {
		_, _, err := ParseURI(uri)
		require.Error(t, err, uri)
	}
}
