package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const identityFolder = "testdata/identity"

func roleOf(name string) string { return "arn:aws:iam::" + account + ":role/" + name }

// fakeSTS answers AssumeRole with keys that name the session.
type fakeSTS struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []url.Values // guarded by mu
	broken bool         // guarded by mu
}

func startSTS(t *testing.T) *fakeSTS {
	t.Helper()
	s := &fakeSTS{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := r.ParseForm(); err != nil || s.broken {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		s.asked = append(s.asked, r.PostForm)
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIA%04d</AccessKeyId><SecretAccessKey>hush-hush-%s</SecretAccessKey><SessionToken>token-%s</SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>`,
			len(s.asked), r.PostForm.Get("RoleSessionName"), r.PostForm.Get("RoleArn"), time.Now().Add(55*time.Minute).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *fakeSTS) requests() []url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *fakeSTS) fail(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// withBoto3 is a code artifact of testdata/identity with boto3 in it, as set-up installs that for the
// conformance tests.
func withBoto3(t *testing.T) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../../setup/clients/python.sh").Output()
	require.NoError(t, err)
	packages, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "lib/python3*/site-packages"))
	require.NoError(t, err)
	require.Len(t, packages, 1)
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	require.NoError(t, w.AddFS(os.DirFS(identityFolder)))
	require.NoError(t, fs.WalkDir(os.DirFS(packages[0]), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || !neededByBoto3(path) {
			return err
		}
		content, err := os.ReadFile(filepath.Join(packages[0], path))
		if err != nil {
			return err
		}
		file, err := w.Create("vendor/" + path)
		if err != nil {
			return err
		}
		_, err = file.Write(content)
		return err
	}))
	require.NoError(t, w.Close())
	return archive.Bytes()
}

// neededByBoto3 leaves the models of all services but one out.
func neededByBoto3(path string) bool {
	top, rest, _ := strings.Cut(path, "/")
	if !slices.Contains([]string{"boto3", "botocore", "s3transfer", "jmespath", "urllib3", "dateutil", "six.py"}, top) || strings.HasSuffix(path, ".pyc") {
		return false
	}
	data, found := strings.CutPrefix(rest, "data/")
	service, _, nested := strings.Cut(data, "/")
	return !found || !nested || service == "sts"
}

type metadataAnswer struct {
	Status     int
	Body, Type string
}

// askMetadata sends requests to the metadata service from inside.
func (v *microVM) askMetadata(requests ...[]any) (answers []metadataAnswer) {
	v.t.Helper()
	question, err := json.Marshal(requests)
	require.NoError(v.t, err)
	decode(v.t, v.ask(http.MethodPost, "/", string(question)), &answers)
	require.Len(v.t, answers, len(requests))
	return answers
}

// metadataToken gets a session token of the metadata service.
func (v *microVM) metadataToken() object {
	v.t.Helper()
	got := v.askMetadata([]any{"PUT", "/latest/api/token", object{"X-aws-ec2-metadata-token-ttl-seconds": "21600"}})[0]
	require.Equal(v.t, 200, got.Status)
	return object{"X-aws-ec2-metadata-token": got.Body}
}

type sdkCredentials struct{ Key, Secret, Token, Method string }

func (v *microVM) credentials() *sdkCredentials {
	v.t.Helper()
	var found *sdkCredentials
	v.read("/credentials", &found)
	return found
}

func TestAnSDKInAGuestFindsTheCredentialsOfItsRole(t *testing.T) {
	t.Parallel()
	sts := startSTS(t)
	script := filepath.Join(t.TempDir(), "give")
	require.NoError(t, os.WriteFile(script, []byte(`#!/bin/sh
echo '{"Version":1,"AccessKeyId":"AKIACOMMAND","SecretAccessKey":"hush-hush-command"}'
`), 0o700))
	h := ownHostWith(t, func(key, secret string) string {
		return fmt.Sprintf(`roles:
- arn: %s
  assume: {endpoint: %s, region: us-east-1, keys: {accessKeyId: AKIASOURCE, secretAccessKey: hush-hush-source}}
- arn: %s
  command: {args: [%s]}
- arn: %s
  static: {accessKeyId: %s, secretAccessKey: %s}
- arn: %s
  static: {accessKeyId: AKIASTRANGER, secretAccessKey: hush-hush-stranger}
`, roleOf("app"), sts.URL, roleOf("command"), script, roleOf("build"), key, secret, roleOf("stranger"))
	})
	image := h.build(t, withBoto3(t), object{"hooks": allHooks})
	takeRoom(t, 1)
	require.Contains(t, h.buildLog(t, image.arn), "ready "+h.env["AWS_ACCESS_KEY_ID"], "the hooks of a build have the build role")
	require.Contains(t, h.buildLog(t, image.arn), "validated by "+h.env["AWS_ACCESS_KEY_ID"])

	t.Run("a build role without access", func(t *testing.T) {
		var refused imageView
		h.api.Call(t, "CreateMicrovmImage", imageRequest(h.upload(t, workbench(t)), object{"buildRoleArn": roleOf("stranger")}), &refused)
		end, _ := h.awaitBuild(t, refused.ImageArn)
		require.Equal(t, "CREATE_FAILED", end.State)
		require.Contains(t, h.buildOf(t, refused.ImageArn).StateReason, "S3_ACCESS_DENIED")
	})

	t.Run("a role that is assumed", func(t *testing.T) {
		v := h.runUntilRunning(t, image.arn, object{"executionRoleArn": roleOf("app"), "idlePolicy": wakesOnTraffic})
		found := v.credentials()
		require.Equal(t, &sdkCredentials{"ASIA0001", "hush-hush-" + v.id, "token-" + roleOf("app"), "iam-role"}, found)
		asked := sts.requests()
		require.Len(t, asked, 1, "the run hook, boto3 in two sessions: all of one call")
		require.Equal(t, v.id, asked[0].Get("RoleSessionName"))
		require.Equal(t, "dormouse:microvm", asked[0].Get("Tags.member.2.Key"))
		require.Equal(t, v.id, asked[0].Get("Tags.member.2.Value"))
		var seen map[string]*sdkCredentials
		v.read("/seen", &seen)
		require.Equal(t, found, seen["run"])
		require.Equal(t, h.env["AWS_ACCESS_KEY_ID"], seen["ready"].Key)
		require.Contains(t, v.ask("GET", "/caller", ""), "ASIA0001")

		token := v.metadataToken()
		v.suspend()
		require.Equal(t, found, v.credentials(), "the same after a suspend")
		answers := v.askMetadata([]any{"GET", "/latest/meta-data/iam/security-credentials/execution_role", token})
		require.Equal(t, 200, answers[0].Status, "tokens live on over a suspend")
		var document struct {
			Code, Type, AccessKeyID string
			Expiration              time.Time
		}
		decode(t, answers[0].Body, &document)
		require.Equal(t, []string{"Success", "AWS-HMAC", "ASIA0001"}, []string{document.Code, document.Type, document.AccessKeyID})
		require.WithinDuration(t, time.Now().Add(55*time.Minute), document.Expiration, 5*time.Minute)
		v.read("/seen", &seen)
		require.Equal(t, found, seen["resume"])
	})

	t.Run("the protocol", func(t *testing.T) {
		v := h.runUntilRunning(t, image.arn, object{"executionRoleArn": roleOf("command")})
		token := v.metadataToken()
		answers := v.askMetadata(
			[]any{"GET", "/latest/meta-data/", object{}},
			[]any{"GET", "/latest/meta-data/", token},
			[]any{"GET", "/latest/meta-data/placement/region", token},
			[]any{"GET", "/latest/meta-data/placement/availability-zone-id", token},
			[]any{"GET", "/latest/meta-data/none", token},
			[]any{"POST", "/latest/meta-data/", token},
			[]any{"PUT", "/latest/api/token", object{"X-aws-ec2-metadata-token-ttl-seconds": "60", "X-Forwarded-For": "1.2.3.4"}},
			[]any{"PUT", "/latest/api/token", object{}},
		)
		require.Equal(t, []metadataAnswer{
			{401, "Unauthorized\n", "text/plain"}, {200, "iam/\nplacement/\ntags/", "text/plain"}, {200, region, "text/plain"},
			{200, "use1-az1", "text/plain"}, {404, "Not Found\n", "text/plain"}, {405, "Method Not Allowed\n", "text/plain"},
			{403, "Forbidden\n", "text/plain"}, {400, "Bad Request\n", "text/plain"},
		}, answers)
		require.Equal(t, &sdkCredentials{"AKIACOMMAND", "hush-hush-command", "", "iam-role"}, v.credentials())
	})

	t.Run("no role, and one that is not configured", func(t *testing.T) {
		for _, with := range []object{{}, {"executionRoleArn": roleOf("unknown")}} {
			v := h.runUntilRunning(t, image.arn, with)
			require.Nil(t, v.credentials())
			got := v.askMetadata([]any{"GET", "/latest/meta-data/iam/security-credentials/", v.metadataToken()})[0]
			require.Equal(t, 404, got.Status)
		}
		logged, err := h.Logged(roleOf("unknown"))
		require.NoError(t, err)
		require.True(t, logged, "the operator learns why")
	})

	t.Run("an STS that refuses", func(t *testing.T) {
		sts.fail(true)
		v := h.runUntilRunning(t, image.arn, object{"executionRoleArn": roleOf("app")})
		token := v.metadataToken()
		begin := h.LogSize()
		for range 3 {
			got := v.askMetadata([]any{"GET", "/latest/meta-data/iam/security-credentials/execution_role", token})[0]
			require.Equal(t, 503, got.Status)
			require.NotContains(t, got.Body, sts.URL)
		}
		require.LessOrEqual(t, strings.Count(h.Log(begin), "a guest cannot have the credentials"), 1)
		logged, err := h.Logged("a guest cannot have the credentials of its role\" microvm=" + v.id)
		require.NoError(t, err)
		require.True(t, logged)
	})

	refusal := h.api.Refused(t, "RunMicrovm", object{"imageIdentifier": image.arn, "executionRoleArn": "arn:aws:iam::111111111111:role/app"})
	require.Equal(t, "AccessDeniedException", refusal.Name)
	require.Equal(t, http.StatusForbidden, refusal.Status)
	logged, err := h.Logged("hush-hush")
	require.NoError(t, err)
	require.False(t, logged, "secrets stay out of the log")
}
