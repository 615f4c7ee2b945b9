//go:build realbuildkit

// These tests run real Dockerfiles in a real buildkitd on this host, without a microVM. They
// need root, and in the environment the paths of a buildkitd (DORMOUSE_TEST_BUILDKITD), of a
// runc (DORMOUSE_TEST_RUNC) and of a static busybox (DORMOUSE_TEST_BUSYBOX):
//
//	go test -tags realbuildkit ./internal/image/buildkit
package buildkit

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/image/mirror"
	"github.com/dormouse-dev/dormouse/internal/image/ocitest"
	"github.com/dormouse-dev/dormouse/internal/image/rootfs"
)

// daemon is a buildkitd whose only registry is a mirror of one base image, busybox as debian:12.
type daemon struct {
	socket, bases string
	process       *os.Process
}

func need(t *testing.T, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	require.NotEmpty(t, value, variable)
	return value
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	bases := makeBase(t)
	registry, err := mirror.New(bases, mirror.Offline())
	require.NoError(t, err)
	server := httptest.NewServer(registry)
	t.Cleanup(server.Close)
	// Not t.TempDir: the path of a unix socket has 108 bytes at most.
	dir, err := os.MkdirTemp("", "bk")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })

	host := strings.TrimPrefix(server.URL, "http://")
	named, err := reference.ParseNormalizedNamed("any")
	require.NoError(t, err)
	config := fmt.Sprintf("root = %q\n[grpc]\naddress = [%q]\n[worker.oci]\nbinary = %q\nnetworkMode = \"host\"\nsnapshotter = \"overlayfs\"\n"+
		"[worker.containerd]\nenabled = false\n[registry.%q]\nmirrors = [%q]\n[registry.%q]\nhttp = true\n",
		filepath.Join(dir, "root"), "unix://"+filepath.Join(dir, "sock"), need(t, "DORMOUSE_TEST_RUNC"), reference.Domain(named), host, host)
	file := filepath.Join(dir, "buildkitd.toml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	command := exec.Command(need(t, "DORMOUSE_TEST_BUILDKITD"), "--config", file)
	command.Env = append(os.Environ(), "PATH="+filepath.Dir(need(t, "DORMOUSE_TEST_RUNC"))+":"+os.Getenv("PATH"))
	// What it mounts is gone with it, even after a kill.
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	output, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	command.Stdout, command.Stderr = output, output
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
		if text, err := os.ReadFile(output.Name()); t.Failed() && err == nil {
			t.Logf("buildkitd:\n%s", text)
		}
	})
	d := &daemon{socket: filepath.Join(dir, "sock"), bases: bases, process: command.Process}
	require.Eventually(t, func() bool {
		conn, err := d.dial(context.Background())
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, 30*time.Second, 100*time.Millisecond)
	return d
}

func (d *daemon) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
}

func makeBase(t *testing.T) string {
	t.Helper()
	busybox, err := os.ReadFile(need(t, "DORMOUSE_TEST_BUSYBOX"))
	require.NoError(t, err)
	program := ocitest.File("bin/busybox", string(busybox))
	program.Mode = 0o755
	entries := []ocitest.Entry{program, ocitest.Dir("tmp", 0o1777), ocitest.File("etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")}
	for _, name := range []string{"sh", "echo", "cat", "ls", "dd", "true", "false", "sleep", "ln", "mkdir", "chmod", "rm", "id", "wc", "seq"} {
		entries = append(entries, ocitest.Symlink("bin/"+name, "busybox"))
	}
	dir := t.TempDir()
	ocitest.Write(t, dir, assets.RefName, map[string]v1.Image{
		"debian:12": ocitest.Image(t, v1.Config{Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin", "BASE=1"}}, ocitest.Tar(t, entries...))})
	return dir
}

type result struct {
	layout, log string
	exported    bool
	err         error
}

func (d *daemon) build(t *testing.T, ctx context.Context, files map[string]string, change func(*Build)) result {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, "context", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o755))
	}
	var r result
	var log bytes.Buffer
	b := Build{Context: filepath.Join(dir, "context"), Out: filepath.Join(dir, "out"), Bases: d.bases,
		MaxBytes: 1 << 30, Log: &log, Exporting: func() { r.exported = true }}
	if change != nil {
		change(&b)
	}
	began := time.Now()
	r.err = Run(ctx, d.dial, b)
	r.layout, r.log = b.Out, log.String()
	t.Logf("%v in %s\n%s", r.err, time.Since(began), r.log)
	return r
}

// flatten makes the root file system of a result and returns what reads a file of it.
func flatten(t *testing.T, r result) (rootfs.Start, func(request string) string) {
	t.Helper()
	require.NoError(t, r.err)
	require.True(t, r.exported)
	file := filepath.Join(t.TempDir(), "rootfs.ext4")
	start, err := rootfs.Write(t.Context(), r.layout, file, 1<<30)
	require.NoError(t, err)
	return start, func(request string) string {
		out, err := exec.Command("debugfs", "-R", request, file).Output()
		require.NoError(t, err)
		return string(out)
	}
}

func TestRealDockerfiles(t *testing.T) {
	d := startDaemon(t)
	t.Run("stages, heredocs, copies, arguments, cache mounts and a syntax line", func(t *testing.T) {
		r := d.build(t, t.Context(), map[string]string{
			"Dockerfile": `# syntax=docker/dockerfile:1
ARG VERSION=12
FROM debian:${VERSION} AS build
ARG GREETING=hello
RUN --mount=type=cache,target=/cache echo $GREETING > /cache/x && cat /cache/x > /made
RUN <<EOF
echo heredoc one
echo two > /two
EOF
FROM debian:12
WORKDIR /srv
COPY --from=build --chmod=640 /made /two ./
COPY --chown=app:app app/ ./app/
COPY <<-EOT /etc/motd
	from a heredoc
EOT
RUN echo new > /srv/new && ln /srv/new /srv/new-too && rm /bin/wc && mkdir -p /data && chmod 1777 /data
ENV A=b
USER app
EXPOSE 8080
ENTRYPOINT ["/srv/app/run.sh"]
CMD ["--port", "8080"]
`,
			"app/run.sh": "#!/bin/sh\n", ".dockerignore": "app/secret\n", "app/secret": "s3cret",
		}, nil)
		start, fs := flatten(t, r)
		require.Equal(t, rootfs.Start{Args: []string{"/srv/app/run.sh", "--port", "8080"}, Env: []string{"PATH=/bin", "BASE=1", "A=b"}, WorkDir: "/srv", User: "app"}, start)
		require.Equal(t, "hello\n", fs("cat /srv/made"))
		require.Equal(t, "two\n", fs("cat /srv/two"))
		require.Equal(t, "from a heredoc\n", fs("cat /etc/motd"))
		require.Contains(t, fs("stat /srv/new"), "Links: 2")
		require.Regexp(t, `Mode: +0640`, fs("stat /srv/made"))
		require.Regexp(t, `User: +1000 +Group: +1000`, fs("stat /srv/app/run.sh"))
		require.Regexp(t, `Mode: +01777`, fs("stat /data"))
		require.NotContains(t, fs("ls -p /srv/app"), "secret")
		require.NotContains(t, fs("ls -p /bin"), "/wc/")
		require.Contains(t, fs("ls -p /bin"), "/busybox/")
		require.Regexp(t, `#\d+ [0-9.]+ heredoc one\n`, r.log)
		base, err := os.ReadDir(filepath.Join(d.bases, "blobs/sha256"))
		require.NoError(t, err)
		for _, blob := range base {
			info, err := os.Lstat(filepath.Join(r.layout, "blobs/sha256", blob.Name()))
			require.NoError(t, err)
			require.Equal(t, os.ModeSymlink, info.Mode().Type(), "blobs of the base are not transferred")
		}
	})
	t.Run("an image from nothing", func(t *testing.T) {
		_, fs := flatten(t, d.build(t, t.Context(), map[string]string{"Dockerfile": "FROM scratch\nCOPY hi /hi\nCMD [\"/hi\"]\n", "hi": "x"}, nil))
		require.Equal(t, "x", fs("cat /hi"))
	})
	t.Run("a failing RUN shows its output, its exit code and its line", func(t *testing.T) {
		r := d.build(t, t.Context(), map[string]string{"Dockerfile": "FROM debian:12\nRUN echo before && exit 3\n"}, nil)
		require.ErrorIs(t, r.err, ErrDockerfile)
		require.Contains(t, r.log, "before")
		require.Contains(t, r.log, "exit code: 3")
		require.Contains(t, r.log, "2 | >>> RUN echo before")
		require.False(t, r.exported)
	})
	for name, dockerfile := range map[string]string{
		"a syntax error":                   "FRUM debian:12\n",
		"an unknown base":                  "FROM debian:1\n",
		"a missing file":                   "FROM debian:12\nCOPY nothing /\n",
		"no instructions":                  "\n",
		"a privilege that was not granted": "FROM debian:12\nRUN --security=insecure true\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := d.build(t, t.Context(), map[string]string{"Dockerfile": dockerfile}, nil)
			require.ErrorIs(t, r.err, ErrDockerfile)
			require.Contains(t, r.log, "ERROR: ")
		})
	}
	t.Run("an image that is too large", func(t *testing.T) {
		r := d.build(t, t.Context(), map[string]string{"Dockerfile": "FROM debian:12\nRUN dd if=/dev/urandom of=/big bs=1M count=20\n"},
			func(b *Build) { b.MaxBytes = 10 << 20 })
		require.ErrorIs(t, r.err, ErrDiskFull)
	})
	t.Run("a build that takes too long", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		r := d.build(t, ctx, map[string]string{"Dockerfile": "FROM debian:12\nRUN echo begun && sleep 60\n"}, nil)
		require.ErrorIs(t, r.err, context.DeadlineExceeded)
		require.Contains(t, r.log, "begun")
	})
	t.Run("a warm-up skips what cannot be built from", func(t *testing.T) {
		var log bytes.Buffer
		require.NoError(t, WarmUp(t.Context(), d.dial, []string{"debian:12", "debian:1"}, d.bases, &log))
		require.Contains(t, log.String(), "RUN rm /tmp/warm-up")
		require.Contains(t, log.String(), "Skipped debian:1")
	})
	t.Run("a syntax line with another frontend, offline", func(t *testing.T) {
		_, fs := flatten(t, d.build(t, t.Context(), map[string]string{"Dockerfile": "# syntax=example.org/x:1\nFROM debian:12\nRUN echo 1 > /one\n"}, nil))
		require.Equal(t, "1\n", fs("cat /one"))
	})
}

func TestABuilderThatDiesIsNotTheUsersFault(t *testing.T) {
	d := startDaemon(t)
	time.AfterFunc(2*time.Second, func() { _ = d.process.Kill() })
	r := d.build(t, t.Context(), map[string]string{"Dockerfile": "FROM debian:12\nRUN sleep 5\n"}, nil)
	require.Error(t, r.err)
	require.NotErrorIs(t, r.err, ErrDockerfile)
}
