package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/extension"
	"github.com/dormouse-dev/dormouse/test/e2e/daemon"
)

// newcomer is somebody with the binary, an empty data folder and ports that are free.
type newcomer struct {
	t      *testing.T
	binary string
	env    []string
}

func newNewcomer(t *testing.T) *newcomer {
	t.Helper()
	binary, err := daemon.Binary(t.Context())
	require.NoError(t, err)
	dir, err := os.MkdirTemp(os.Getenv("DORMOUSE_DATA_DIR"), "dormouse-e2e-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "DORMOUSE_DATA_DIR=" + filepath.Join(dir, "data")}
	if assets := os.Getenv("DORMOUSE_ASSETS"); assets != "" {
		env = append(env, "DORMOUSE_ASSETS="+assets)
	}
	for _, name := range []string{"API", "S3", "ENDPOINT"} {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		env = append(env, "DORMOUSE_LISTEN_"+name+"="+listener.Addr().String())
		require.NoError(t, listener.Close())
	}
	n := &newcomer{t: t, binary: binary, env: env}
	t.Cleanup(func() { n.run("down") })
	return n
}

// run runs a command line that must succeed, and returns what it printed.
func (n *newcomer) run(args ...string) string {
	n.t.Helper()
	out, errOut, status := n.try(args...)
	require.Zero(n.t, status, "dormouse %s\n%s%s", strings.Join(args, " "), out, errOut)
	n.t.Logf("$ dormouse %s\n%s%s", strings.Join(args, " "), out, errOut)
	return out
}

func (n *newcomer) try(args ...string) (out, errOut string, status int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit) // the clean-up runs one too
	defer cancel()
	cmd := exec.CommandContext(ctx, n.binary, args...)
	cmd.Env = n.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // its status says all
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// shell runs a command line of a shell, in the folder of the repository.
func (n *newcomer) shell(line string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = "../.."
	cmd.Env = append(slices.Clone(n.env), "PATH="+filepath.Dir(n.binary)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(n.t, err, "%s\n%s", line, out)
	n.t.Logf("$ %s\n%s", line, out)
	return string(out)
}

// readmeLine is the line of README.md that starts with a text.
func readmeLine(t *testing.T, start string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, start) {
			return strings.TrimSpace(line)
		}
	}
	require.Fail(t, "README.md has no line that starts with "+start)
	return ""
}

// counter asks the app how often it was asked.
func (n *newcomer) counter() int {
	n.t.Helper()
	var answer struct{ Counter int }
	require.NoError(n.t, json.Unmarshal([]byte(n.run("curl", "counter", "/")), &answer))
	return answer.Counter
}

// The commands of README.md, and what one does next, with nothing but the command line.
func TestANewcomerGetsFromAFolderToARunningEndpoint(t *testing.T) {
	t.Parallel()
	takeRoom(t, buildRoom)
	n := newNewcomer(t)

	_, advice, status := n.try("ps")
	require.Equal(t, 5, status)
	require.Contains(t, advice, "dormouse up")

	require.Contains(t, n.run("up"), "the daemon is ready")
	require.Contains(t, n.run("up"), "the daemon runs already")

	began := n.shell(readmeLine(t, "dormouse build "))
	require.Contains(t, began, "counter:1.0 is ready")
	require.Contains(t, began, "snapshot")
	require.Contains(t, began, "dormouse token ")
	require.Contains(t, began, `"counter": 1`)
	require.Contains(t, n.run("images"), "counter")
	require.Contains(t, n.run("logs", "--build", "counter"), "The image is ready")

	id := strings.TrimSpace(n.run("ps", "-q"))
	require.Equal(t, 2, n.counter())
	require.Contains(t, n.run("ps"), "RUNNING")
	require.Contains(t, n.run("inspect", id), "last launch")

	require.Contains(t, n.run("suspend", "counter"), "is asleep")
	require.Contains(t, n.run("ps"), "SUSPENDED")
	require.Equal(t, 3, n.counter(), "a request wakes it, with everything still in memory")
	require.Contains(t, n.run("inspect", id), "last resume")

	require.NotContains(t, n.run("logs", id), "counter: app on 8080", "it said so before it was snapshotted")
	require.Contains(t, n.run("logs", "--build", "counter"), "counter: app on 8080")
	n.run("logs", "--console", id)
	var operations []string
	var events []extension.Event
	require.NoError(t, json.Unmarshal([]byte(n.run("events", id, "-o", "json")), &events))
	for _, e := range events {
		operations = append(operations, e.Operation)
	}
	require.Subset(t, operations, []string{"launch", "suspend", "resume"})

	// What is asleep when the daemon stops is there when it starts again.
	n.run("down")
	require.Contains(t, n.run("down"), "no daemon serves from")
	n.run("up")
	require.Equal(t, 4, n.counter())

	require.Contains(t, n.run("rm", id), "ended")
	require.Contains(t, n.run("rm", "counter"), "counter deleted")
	require.NotContains(t, n.run("images"), "counter")
}

func TestABuildThatFailsShowsWhy(t *testing.T) {
	t.Parallel()
	takeRoom(t, buildRoom)
	n := newNewcomer(t)
	n.run("up")
	dir := t.TempDir()
	dockerfile := "FROM python:3-slim\nRUN echo about to fail && ls /no-such-thing\nCMD [\"true\"]\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600))
	_, said, status := n.try("build", dir, "-t", "broken")
	require.Equal(t, 1, status)
	require.Contains(t, said, "RUN echo about to fail && ls /no-such-thing")
	require.Contains(t, said, "ls: cannot access '/no-such-thing': No such file or directory")
	require.Contains(t, said, "the build of broken:1.0 failed: [2/2] RUN echo about to fail && ls /no-such-thing: exit code: 2")
}
