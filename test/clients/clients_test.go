package clients

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/endpoint/acme/acmetest"
	"github.com/dormouse-dev/dormouse/test/e2e/daemon"
)

// TestMain runs the clients only when asked to, because they are installed first and take minutes.
func TestMain(m *testing.M) {
	if os.Getenv("DORMOUSE_CLIENTS") != "1" {
		fmt.Fprintln(os.Stderr, "HTTP clients and browsers not run: set DORMOUSE_CLIENTS=1")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// client is a program that reads and writes what node/session.mjs says.
type client struct {
	name string
	// command makes it ready to start.
	command func(t *testing.T, v vm) *exec.Cmd
}

var programs = []client{
	{"Chromium", chromium},
	{"Node", node("node.mjs")},
	{"Python", python},
}

// setting is how a daemon is started, and what clients find then.
type setting struct {
	name   string
	domain string // of endpoints; "" in mode ip
	issuer string // of their certificates, "" = not looked at in a browser
	flags  func(t *testing.T) (environment []string, ca string)
}

var settings = []setting{
	{"addresses", "", "Dormouse local CA", nil},
	{"names with a certificate by ACME", "vms.test", "", func(t *testing.T) ([]string, string) {
		server := acmetest.New(t, 3600, 443) // a TXT record proves the domain: the server does not connect
		return []string{
			"DORMOUSE_ACME_DOMAIN=vms.test", "DORMOUSE_ACME_DIRECTORY=" + server.Directory, "DORMOUSE_ACME_CA=" + server.Trust,
			"DORMOUSE_ACME_DNS_COMMAND=" + server.DNSCommand, "DORMOUSE_ENDPOINT_CA=" + server.Roots,
		}, server.Roots
	}},
	{"names below localhost", "localhost", "Dormouse local CA", func(*testing.T) ([]string, string) {
		return []string{"DORMOUSE_ENDPOINT_MODE=domain"}, ""
	}},
	{"names with a wildcard certificate", "vms.test", "Example CA", func(t *testing.T) ([]string, string) {
		cert, key, ca := wildcard(t, "*.vms.test")
		return []string{"DORMOUSE_ENDPOINT_DOMAIN=vms.test", "DORMOUSE_ENDPOINT_CERT=" + cert, "DORMOUSE_ENDPOINT_KEY=" + key, "DORMOUSE_ENDPOINT_CA=" + ca}, ca
	}},
}

// TestMicroVMsAreReached reaches the same microVM in each setting: a daemon takes over what the one
// before it left asleep.
func TestMicroVMsAreReached(t *testing.T) {
	d, err := daemon.New(t.Context(), os.Getenv("DORMOUSE_DATA_DIR"))
	require.NoError(t, err)
	h := host{d, t}
	t.Cleanup(func() { require.NoError(t, h.Remove()) })
	h.start()
	h.command("build", "app", "--tag", image, "--quiet")
	id, other := h.command("run", "--quiet", "--wait", image), h.command("run", "--quiet", "--wait", image)
	require.NoError(t, h.Stop())

	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			h := host{d, t}
			environment, ca := []string(nil), ""
			if s.flags != nil {
				environment, ca = s.flags(t)
			}
			h.start(environment...)
			defer func() { require.NoError(t, h.Stop()) }()
			v := h.describe(id, other)
			v.Named, v.Issuer, v.CA = s.domain != "", s.issuer, cmp.Or(ca, v.CA)
			require.Equal(t, v.Named, strings.HasSuffix(v.Hostname, "."+s.domain), v.Hostname)
			certified(t, v)
			t.Run("curl", func(t *testing.T) { curl(t, v) })
			t.Run("dormouse curl", func(t *testing.T) {
				require.Contains(t, host{d, t}.command("curl", id, "/", "--fail"), "in a microVM")
			})
			if s.issuer == "" {
				return
			}
			for _, c := range programs {
				t.Run(c.name, func(t *testing.T) { host{d, t}.run(c, v) })
			}
		})
	}
}

// run makes a subtest of each promise that the client has checked.
func (h host) run(c client, v vm) {
	cmd := c.command(h.t, v)
	stdin, err := cmd.StdinPipe()
	require.NoError(h.t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(h.t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(h.t, cmd.Start())
	defer func() { require.NoError(h.t, cmd.Wait(), "%s", &stderr) }()
	require.NoError(h.t, json.NewEncoder(stdin).Encode(v))
	checked, done := 0, false
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var said struct {
			Check, Error  string
			Suspend, Done bool
		}
		require.NoError(h.t, json.Unmarshal(lines.Bytes(), &said), lines.Text())
		switch {
		case said.Suspend:
			h.sleep(v.id)
			_, err := fmt.Fprintln(stdin)
			require.NoError(h.t, err)
		case said.Done:
			done = true
		default:
			checked++
			h.t.Run(said.Check, func(t *testing.T) { require.Empty(t, said.Error) })
		}
	}
	require.True(h.t, done, "it has ended early, after %d checks\n%s", checked, &stderr)
	require.Positive(h.t, checked)
}

// certified waits until the endpoint has its certificate, which an authority may have to be asked for.
func certified(t *testing.T, v vm) {
	t.Helper()
	require.Eventually(t, func() bool {
		return exec.CommandContext(t.Context(), "curl", "--silent", "--cacert", v.CA, "--resolve", v.resolved(), "https://"+v.Host+"/").Run() == nil
	}, limit, 100*time.Millisecond)
}

func curl(t *testing.T, v vm) {
	for _, protocol := range []string{"1.1", "2"} {
		t.Run("HTTP/"+protocol, func(t *testing.T) {
			for _, c := range []struct {
				headers, path string
				code          string
				body          string
			}{
				{"x-aws-proxy-auth: " + v.Token, "/", "200", "in a microVM"},
				{"x-aws-proxy-auth: " + v.Token + "\nx-aws-proxy-port: 9090", "/seen", "200", `"port": 9090`},
				{"x-aws-proxy-auth: " + v.Narrow + "\nx-aws-proxy-port: 9090", "/seen", "403", "Access to port denied"},
				{"x-aws-proxy-auth: " + v.Other, "/", "403", "Token authentication failed"},
				{"accept: */*", "/", "403", "Request missing authentication"},
			} {
				cmd := exec.CommandContext(t.Context(), "curl", "--silent", "--show-error", "--http"+protocol, "--cacert", v.CA,
					"--resolve", v.resolved(), "--header", "@-", "--write-out", "\n%{http_version} %{http_code}", "https://"+v.Host+c.path)
				cmd.Stdin = strings.NewReader(c.headers)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", out)
				require.Contains(t, string(out), c.body)
				require.True(t, strings.HasSuffix(string(out), "\n"+protocol+" "+c.code), "%s", out)
			}
		})
	}
	t.Run("without the CA", func(t *testing.T) {
		out, err := exec.CommandContext(t.Context(), "curl", "--silent", "--show-error", "--resolve", v.resolved(), "https://"+v.Host+"/").CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "certificate")
	})
}

// installed runs a script of setup/clients and returns the path it prints.
func installed(t *testing.T, script string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join("..", "..", "setup", "clients", script), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	return strings.TrimSpace(string(out))
}

func node(program string) func(*testing.T, vm) *exec.Cmd {
	return func(t *testing.T, v vm) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "node", filepath.Join(installed(t, "node.sh", "node"), program))
		cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+v.CA)
		return cmd
	}
}

func python(t *testing.T, v vm) *exec.Cmd {
	interpreter := filepath.Join(installed(t, "python.sh", "http.txt"), "bin", "python")
	cmd := exec.CommandContext(t.Context(), interpreter, "-B", filepath.Join("python", "client.py"))
	cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+v.CA)
	return cmd
}

// chromium trusts the CA as a user's does: it is in the certificate store of its home folder.
func chromium(t *testing.T, v vm) *exec.Cmd {
	home := t.TempDir()
	store := filepath.Join(home, ".pki", "nssdb")
	require.NoError(t, os.MkdirAll(store, 0o700))
	browser := installed(t, "browser.sh")
	for _, args := range [][]string{
		{"-N", "--empty-password"},
		{"-A", "-n", "Dormouse", "-t", "C,,", "-i", v.CA},
	} {
		out, err := exec.CommandContext(t.Context(), "certutil", append([]string{"-d", "sql:" + store}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	cmd := node("browser.mjs")(t, v)
	cmd.Env = append(cmd.Env, "HOME="+home, "CHROMIUM="+browser)
	return cmd
}
