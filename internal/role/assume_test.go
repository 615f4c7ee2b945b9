package role

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/config"
	"github.com/dormouse-dev/dormouse/internal/sigv4"
)

// fakeSTS speaks the query protocol of the Security Token Service.
type fakeSTS struct {
	*httptest.Server
	asked  []url.Values
	status int
}

// sourceKey is the only access key it knows.
const sourceKey, sourceSecret = "AKIASOURCE", "source-secret"

type keyring struct{}

func (keyring) Secret(_ context.Context, id string) (secret, account string, err error) {
	if id != sourceKey {
		return "", "", sigv4.ErrUnknownKey
	}
	return sourceSecret, "123456789012", nil
}

// read checks the signature of a request and returns its parameters.
func (s *fakeSTS) read(r *http.Request) (url.Values, error) {
	claim, err := (&sigv4.Verifier{Credentials: keyring{}, Service: "sts", Clock: clockwork.NewRealClock()}).Claim(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	if err := claim.Prove(r, hex.EncodeToString(sum[:])); err != nil {
		return nil, err
	}
	if claim.Region != "eu-west-1" {
		return nil, fmt.Errorf("signed for %s", claim.Region)
	}
	return url.ParseQuery(string(body))
}

func startSTS(t *testing.T) *fakeSTS {
	t.Helper()
	s := &fakeSTS{status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form, err := s.read(r)
		if err != nil {
			t.Error(err)
		}
		s.asked = append(s.asked, form)
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(s.status)
		if s.status != http.StatusOK {
			fmt.Fprint(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error><RequestId>1</RequestId></ErrorResponse>`)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIA%d</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>`,
			len(s.asked), time.Now().Add(Lifetime).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(s.Close)
	return s
}

func TestARoleIsAssumedOnASTS(t *testing.T) {
	s := startSTS(t)
	keys := &config.KeyPair{AccessKeyID: sourceKey, SecretAccessKey: sourceSecret}
	tags := map[string]string{"dormouse:microvm": session, "dormouse:image": "arn:aws:lambda:us-east-1:000000000000:microvm-image:app"}
	r := open(t,
		config.Role{ARN: appRole, Assume: &config.Assume{Endpoint: s.URL, Region: "eu-west-1", Keys: keys, RoleARN: "arn:aws:iam::123456789012:role/real", ExternalID: "ext"}},
		config.Role{ARN: "arn:aws:iam::000000000000:role/*", Assume: &config.Assume{Endpoint: s.URL, Region: "eu-west-1", Keys: keys, SessionTags: new(bool)}},
	)
	c, err := r.For(Session{Role: appRole, Name: session, Tags: tags})
	require.NoError(t, err)
	require.Empty(t, s.asked, "nothing is asked before it is needed")
	got, err := c.Retrieve(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"ASIA1", "secret", "token"}, []string{got.AccessKeyID, got.SecretAccessKey, got.SessionToken})
	require.WithinDuration(t, time.Now().Add(Lifetime), got.Expires, time.Minute)
	require.Equal(t, url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "DurationSeconds": {"3300"}, "ExternalId": {"ext"},
		"RoleArn": {"arn:aws:iam::123456789012:role/real"}, "RoleSessionName": {session},
		"Tags.member.1.Key": {"dormouse:image"}, "Tags.member.1.Value": {tags["dormouse:image"]},
		"Tags.member.2.Key": {"dormouse:microvm"}, "Tags.member.2.Value": {session},
	}, s.asked[0])

	c, err = r.For(Session{Role: "arn:aws:iam::000000000000:role/team/x", Name: "build-1", Tags: tags})
	require.NoError(t, err)
	_, err = c.Retrieve(t.Context())
	require.NoError(t, err)
	require.Equal(t, url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "DurationSeconds": {"3300"},
		"RoleArn": {"arn:aws:iam::000000000000:role/team/x"}, "RoleSessionName": {"build-1"},
	}, s.asked[1])

	s.status = http.StatusForbidden
	c, err = r.For(Session{Role: appRole, Name: session})
	require.NoError(t, err)
	_, err = c.Retrieve(t.Context())
	require.ErrorContains(t, err, "AccessDenied: not you")
	require.NotContains(t, err.Error(), sourceSecret)
}

func TestAProfileThatDoesNotExistIsFoundAtTheStart(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	_, err := New(t.Context(), []config.Role{{ARN: appRole, Assume: &config.Assume{Profile: "nobody"}}}, nil)
	require.ErrorContains(t, err, "nobody")
}
