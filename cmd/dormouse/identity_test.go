package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/config"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/role"
)

// metadataOf asks a guest's metadata service for the credentials of its role.
func metadataOf(t *testing.T, i *identities, who microvm.Identity) *httptest.ResponseRecorder {
	t.Helper()
	service := i.metadata(who)
	ask := func(method, path, header, value string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
		r.Host = "169.254.169.254"
		r.Header.Set(header, value)
		w := httptest.NewRecorder()
		service.ServeHTTP(w, r)
		return w
	}
	token := ask("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60").Body.String()
	return ask("GET", "/latest/meta-data/iam/security-credentials/execution_role", "X-aws-ec2-metadata-token", token)
}

func TestGuestsGetTheCredentialsThatTheConfigurationHas(t *testing.T) {
	dir := t.TempDir()
	text := "roles:\n- arn: arn:aws:iam::000000000000:role/app\n  static: {accessKeyId: AKIA, secretAccessKey: hush}\n" +
		"- arn: arn:aws:iam::000000000000:role/broken\n  command: {args: [/bin/sh, -c, 'echo hush; exit 1']}\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, config.DefaultName), []byte(text), 0o600))
	var log bytes.Buffer
	file, err := serveOptions{dataDir: dir}.configuration()
	require.NoError(t, err)
	i, err := openIdentities(t.Context(), file.Roles, clockwork.NewRealClock(), slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)

	who := microvm.Identity{Name: "microvm-1", Region: "us-east-1", Role: "arn:aws:iam::000000000000:role/app"}
	require.Contains(t, metadataOf(t, i, who).Body.String(), `"SecretAccessKey": "hush"`)
	got, err := i.credentials(who).Retrieve(t.Context())
	require.NoError(t, err)
	require.Equal(t, "AKIA", got.AccessKeyID)
	require.Empty(t, log.String())

	require.Equal(t, 404, metadataOf(t, i, microvm.Identity{Name: "microvm-2"}).Code)
	require.Empty(t, log.String(), "to have no role is nothing to log")
	who.Role = "arn:aws:iam::000000000000:role/other"
	require.Equal(t, 404, metadataOf(t, i, who).Code)
	require.Nil(t, i.credentials(who))
	require.Contains(t, log.String(), "microvm=microvm-1 role=arn:aws:iam::000000000000:role/other")

	who.Role = "arn:aws:iam::000000000000:role/broken"
	require.Equal(t, 503, metadataOf(t, i, who).Code)
	require.Contains(t, log.String(), "exit status 1")
	require.Contains(t, log.String(), "microvm=microvm-1")
	require.NotContains(t, log.String(), "hush")

	require.NoError(t, os.WriteFile(filepath.Join(dir, config.DefaultName), []byte(strings.Replace(text, "static", "sttic", 1)), 0o600))
	_, err = serveOptions{dataDir: dir}.configuration()
	require.ErrorContains(t, err, "sttic")
	require.NotContains(t, err.Error(), "hush")
}

func TestAnSTSLearnsWhetherItIsAMicroVMOrABuild(t *testing.T) {
	for name, key := range map[string]string{"microvm-1": "dormouse:microvm", microvm.BuildName("1"): "dormouse:build"} {
		require.Equal(t, role.Session{Role: "r", Name: name, Tags: map[string]string{key: name, "dormouse:image": "i"}},
			roleSession(microvm.Identity{Name: name, Role: "r", ImageARN: "i"}))
	}
}
