package connection

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// dataDir is the folder of a daemon.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		CredentialsFile: `{"accountId":"000000000000","accessKeyId":"AKDIR","secretAccessKey":"dir secret"}`,
		DaemonFile:      `{"api":"127.0.0.1:7070","s3":"127.0.0.1:7071","endpoint":"127.0.0.1:7443","region":"eu-west-1","caBundle":"/data/ca.pem","pid":7,"builder":"ready"}`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func TestSettingsComeFromTheEnvironmentOrTheDataFolder(t *testing.T) {
	dir := dataDir(t)
	ofDir := Settings{
		API: "http://127.0.0.1:7070", S3: "http://127.0.0.1:7071", Region: "eu-west-1", AccountID: "000000000000",
		AccessKeyID: "AKDIR", SecretAccessKey: "dir secret", CABundle: "/data/ca.pem", Endpoint: "127.0.0.1:7443",
	}
	ofEnvironment := Settings{
		API: "http://vm:1", S3: "http://s3:2", Region: "us-east-1", AccountID: "123456789012",
		AccessKeyID: "AKENV", SecretAccessKey: "env secret", CABundle: "/ca.pem",
	}
	environment := map[string]string{
		"AWS_ENDPOINT_URL_LAMBDA_MICROVMS": "http://vm:1", "AWS_ENDPOINT_URL_S3": "http://s3:2", "AWS_REGION": "us-east-1", "AWS_ACCOUNT_ID": "123456789012",
		"AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "env secret", "DORMOUSE_CA_BUNDLE": "/ca.pem",
	}
	without := func(names ...string) func(string) string {
		return func(name string) string {
			for _, left := range names {
				if name == left {
					return ""
				}
			}
			return environment[name]
		}
	}
	for name, c := range map[string]struct {
		chosen bool
		getenv func(string) string
		want   Settings
	}{
		"environment":                 {getenv: without(), want: ofEnvironment},
		"a folder that was asked for": {chosen: true, getenv: without(), want: ofDir},
		"environment without an account": {getenv: without("AWS_ACCOUNT_ID"), want: func() Settings {
			s := ofEnvironment
			s.AccountID = defaultAccount
			return s
		}()},
		"environment of the daemon in the folder": {
			getenv: func(name string) string {
				return map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:7070", "AWS_REGION": "r", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}[name]
			},
			want: Settings{
				API: "http://127.0.0.1:7070", S3: "http://127.0.0.1:7070", Region: "r", AccountID: defaultAccount, AccessKeyID: "a", SecretAccessKey: "s",
				CABundle: "/data/ca.pem", Endpoint: "127.0.0.1:7443",
			},
		},
		// Keys of real AWS alone must never go to a daemon, nor hide it.
		"keys without an endpoint": {getenv: without("AWS_ENDPOINT_URL_LAMBDA_MICROVMS"), want: ofDir},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Find(dir, c.chosen, c.getenv)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	_, err := Find(dir, false, without("AWS_SECRET_ACCESS_KEY"))
	require.ErrorContains(t, err, "AWS_SECRET_ACCESS_KEY")

	var none *NoDaemonError
	_, err = Find(t.TempDir(), true, without())
	require.ErrorAs(t, err, &none)
}

func TestNamesBelowLocalhostAreLoopback(t *testing.T) {
	require.Equal(t, "127.0.0.1:7443", onLoopback("0c5b7f6e.localhost:7443"))
	require.Equal(t, "127.64.0.1:7443", onLoopback("127.64.0.1:7443"))
	require.Equal(t, "vm.example.org:443", onLoopback("vm.example.org:443"))
}

func TestANameThatCannotBeResolvedIsReachedAtTheDaemon(t *testing.T) {
	unknown := fmt.Errorf("dial: %w", &net.DNSError{IsNotFound: true})
	for listener, want := range map[string]string{"127.0.0.1:7443": "127.0.0.1:7443", "[::]:443": "localhost:443", "0.0.0.0:443": "localhost:443", "": ""} {
		require.Equal(t, want, New(Settings{Endpoint: listener}).besidesDNS(unknown))
	}
	here := New(Settings{Endpoint: "127.0.0.1:7443"})
	require.Empty(t, here.besidesDNS(nil))
	require.Empty(t, here.besidesDNS(errors.New("refused")))
}
