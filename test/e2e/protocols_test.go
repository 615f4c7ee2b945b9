package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// protocolsImage is an image of ./protocols, which speaks every protocol an app may speak.
func (h *host) protocolsImage(t *testing.T) builtImage {
	t.Helper()
	app := filepath.Join(t.TempDir(), "app")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", app, "./protocols")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))
	files := map[string]string{}
	for name, path := range map[string]string{
		"app": app, "Dockerfile": "testdata/protocols/Dockerfile", "python.py": "testdata/protocols/python.py",
	} {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		files[name] = string(content)
	}
	return h.build(t, zipFiles(t, files), object{"hooks": object{
		"port": 9000, "microvmImageHooks": object{"ready": "ENABLED", "readyTimeoutInSeconds": 180},
	}})
}

// to sends a request to a guest port; headers are name and value in turn.
func (v *microVM) to(port int, method, path, body string, headers ...string) answer {
	v.t.Helper()
	return v.send(method, path, body, append(headers, "X-aws-proxy-auth", v.token, "X-aws-proxy-port", strconv.Itoa(port))...)
}

// TestAnAppIsReachedInTheProtocolItSpeaks is one test because all of it needs the same VM.
func TestAnAppIsReachedInTheProtocolItSpeaks(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.protocolsImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})

	t.Run("protocols", func(t *testing.T) {
		v := v.in(t)
		for _, c := range []struct {
			port   int
			force  string
			status int
			want   string
		}{
			{8080, "", 200, "HTTP/1.1"},
			{8081, "true", 200, "HTTP/2.0"},
			{8443, "", 200, "HTTP/2.0"},
			{8443, "true", 200, "HTTP/2.0"},
		} {
			for _, v := range []*microVM{v, v.overHTTP2()} {
				got := v.to(c.port, http.MethodGet, "/proto", "", "X-aws-proxy-force-h2", c.force)
				require.Equal(t, c.status, got.StatusCode, "port %d: %s", c.port, got.Header.Get("X-Aws-Proxy-Error"))
				require.Equal(t, c.want, got.body)
			}
		}
		got := v.to(8080, http.MethodGet, "/proto", "", "X-aws-proxy-force-h2", "true")
		requireRefusal(t, got, http.StatusBadGateway, "APP_H2_UNSUPPORTED", "")
	})
	t.Run("Python behind TLS", func(t *testing.T) {
		v := v.in(t)
		for _, size := range []int{10, 2 << 20, 10} {
			sent := strings.Repeat("x", size)
			got := v.to(8444, http.MethodPost, "/", sent)
			require.Equal(t, http.StatusOK, got.StatusCode, got.Header.Get("X-Aws-Proxy-Error"))
			require.Equal(t, len(sent), len(got.body))
		}
	})
	t.Run("TLS over a suspend", func(t *testing.T) {
		v := v.in(t)
		v.suspend()
		require.Equal(t, "HTTP/2.0", v.to(8443, http.MethodGet, "/proto", "").body)
	})
	for _, port := range []int{8080, 8081, 8443} {
		t.Run("on port "+strconv.Itoa(port), func(t *testing.T) { v.in(t).behaves(port) })
	}
	for _, port := range []int{50051, 50052} {
		t.Run("gRPC on port "+strconv.Itoa(port), func(t *testing.T) { v.in(t).speaksGRPC(port) })
	}
}

// request is one to a guest port, of which the test may change more.
func (v *microVM) request(port int, method, path string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(v.t.Context(), method, "https://"+v.at+path, body)
	require.NoError(v.t, err)
	r.Header.Set("X-aws-proxy-auth", v.token)
	r.Header.Set("X-aws-proxy-port", strconv.Itoa(port))
	if port == 8081 {
		r.Header.Set("X-aws-proxy-force-h2", "true")
	}
	return r
}

// behaves checks what HTTP promises, whatever carries it.
func (v *microVM) behaves(port int) {
	t := v.t
	for _, client := range []*http.Client{v.http, v.overHTTP2().http} {
		// Trailers, both ways.
		r := v.request(port, http.MethodPost, "/echo", nil)
		r.Trailer = http.Header{"Checksum": {"42"}}
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("hello")), -1
		res, err := client.Do(r)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "hello", string(body))
		require.Equal(t, "42", res.Trailer.Get("Seen"))

		// A hint before the response.
		hint := ""
		r = v.request(port, http.MethodGet, "/hint", nil)
		res, err = client.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(_ int, header textproto.MIMEHeader) error { hint = header.Get("Link"); return nil },
		})))
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, "</style.css>; rel=preload", hint)

		// An answer that does not wait for the request.
		res, err = client.Do(v.request(port, http.MethodPost, "/refuse", io.LimitReader(endlessly{}, 64<<20)))
		require.NoError(t, err)
		body, err = io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
		require.Equal(t, "too large for me\n", string(body))

		// A client that leaves.
		before := v.to(8080, http.MethodGet, "/canceled", "").body
		ctx, cancel := context.WithCancel(t.Context())
		res, err = client.Do(v.request(port, http.MethodGet, "/wait", nil).WithContext(ctx))
		require.NoError(t, err)
		cancel()
		res.Body.Close()
		eventually(t, stateLimit, "the app learns that its client left", func() (bool, any) {
			now := v.to(8080, http.MethodGet, "/canceled", "").body
			return now != before, now
		})
	}
	v.expects(port, "/echo", "HTTP/1.1 100 Continue")
	v.expects(port, "/refuse", "HTTP/1.1 413 Request Entity Too Large")
}

// endlessly is a body without an end.
type endlessly struct{}

func (endlessly) Read(p []byte) (int, error) { return len(p), nil }

// expects sends a request's headers with Expect: 100-continue and no body, and checks what is answered.
func (v *microVM) expects(port int, path, status string) {
	t := v.t
	conn, err := tls.Dial("tcp", v.at, &tls.Config{RootCAs: v.host.roots, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(httpLimit)))
	var head bytes.Buffer
	r := v.request(port, http.MethodPost, path, nil)
	r.Header.Set("Expect", "100-continue")
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\n", path, v.at)
	require.NoError(t, r.Header.Write(&head))
	_, err = conn.Write(append(head.Bytes(), "\r\n"...))
	require.NoError(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, status, strings.TrimSpace(line))
}

// speaksGRPC calls the app without telling the endpoint that it is gRPC.
func (v *microVM) speaksGRPC(port int) {
	t := v.t
	conn, err := grpc.NewClient("passthrough:///"+v.at, grpc.WithTransportCredentials(
		credentials.NewTLS(&tls.Config{RootCAs: v.host.roots, MinVersion: tls.VersionTLS12})))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), httpLimit)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-aws-proxy-auth", v.token, "x-aws-proxy-port", strconv.Itoa(port))
	client := testgrpc.NewTestServiceClient(conn)

	payload := &testgrpc.Payload{Body: make([]byte, 100_000)}
	out, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: payload})
	require.NoError(t, err)
	require.Len(t, out.Payload.Body, len(payload.Body))
	_, err = client.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.Aborted), Message: "as asked"}})
	require.Equal(t, codes.Aborted, status.Code(err), err)
	require.Equal(t, "as asked", status.Convert(err).Message())

	calling, leave := context.WithCancel(ctx)
	defer leave()
	stream, err := client.FullDuplexCall(calling)
	require.NoError(t, err)
	for size := range 20 {
		require.NoError(t, stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, 1000*size)}}))
		out, err := stream.Recv()
		require.NoError(t, err)
		require.Len(t, out.Payload.GetBody(), 1000*size)
	}
	before := v.to(8080, http.MethodGet, "/canceled", "").body
	leave()
	eventually(t, stateLimit, "the app learns that its client left", func() (bool, any) {
		now := v.to(8080, http.MethodGet, "/canceled", "").body
		return now != before, now
	})
}
