package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// hookServer is an app with lifecycle hooks.
func hookServer(t *testing.T, handle http.HandlerFunc) uint16 {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.Listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

func TestHookWithoutABodyIsSentAsAWSDoes(t *testing.T) {
	got := string(appendHookRequest(nil, &guest.HookRequest{Name: "ready", Port: 9000}))
	want := "POST /aws/lambda-microvms/runtime/v1/ready HTTP/1.1\r\nHost: localhost:9000\r\nContent-Length: 0\r\n\r\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHookStatusIsTheAppsWhateverItIs(t *testing.T) {
	client, _, _ := startServer(t, nil)
	for _, status := range []int{200, 204, 404, 500, 503} {
		port := hookServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		reply, err := client.Hook(deadline(t), guest.HookRequest{Name: "ready", Port: int(port), Timeout: 10 * time.Second})
		if err != nil || reply != (guest.HookReply{Status: status}) {
			t.Errorf("status %d gave %+v, %v", status, reply, err)
		}
	}
}

func TestHookFailuresAreTold(t *testing.T) {
	client, _, _ := startServer(t, nil)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	answer := func(text string) int {
		return int(listenApp(t, "127.0.0.1:0", func(conn net.Conn) {
			conn.Read(make([]byte, 1024))
			conn.Write([]byte(text))
		}))
	}
	for name, test := range map[string]struct {
		request guest.HookRequest
		want    guest.HookReply
	}{
		"nothing listens": {guest.HookRequest{Name: "run", Port: closed.Addr().(*net.TCPAddr).Port}, guest.HookReply{Error: "connection refused"}},
		"not a hook":      {guest.HookRequest{Name: "../etc", Port: 9000}, guest.HookReply{Error: "no such hook"}},
		"no port":         {guest.HookRequest{Name: "run"}, guest.HookReply{Error: "no such hook"}},
		"not HTTP":        {guest.HookRequest{Name: "run", Port: answer("SSH-2.0-OpenSSH\r\n")}, guest.HookReply{Error: "the answer is not HTTP"}},
		"cut":             {guest.HookRequest{Name: "run", Port: answer("HTTP/1.1 200 OK\r\n")}, guest.HookReply{Error: "the connection ended before the answer"}},
		"endless header":  {guest.HookRequest{Name: "run", Port: answer("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxHeader))}, guest.HookReply{Error: "the header of the answer is too long"}},
	} {
		test.request.Timeout = 10 * time.Second
		if got, err := client.Hook(deadline(t), test.request); err != nil || got != test.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, test.want)
		}
	}
}

func TestHookTimesOut(t *testing.T) {
	client, _, _ := startServer(t, nil)
	silent := listenApp(t, "127.0.0.1:0", func(conn net.Conn) { io.Copy(io.Discard, conn) })
	reply, err := client.Hook(deadline(t), guest.HookRequest{Name: "run", Port: int(silent), Timeout: 30 * time.Millisecond})
	if err != nil || !reply.TimedOut || reply.Status != 0 {
		t.Errorf("reply %+v, %v", reply, err)
	}
}

func TestParseAnswer(t *testing.T) {
	for _, test := range []struct {
		in           string
		status, size int
		bad          bool
	}{
		{in: ""},
		{in: "HTTP/1.1 2"},
		{in: "HTTP/1.1 200 OK\r\nA: b\r\n"},
		{in: "HTTP/1.1 200 OK\r\n\r\n", status: 200, size: 19},
		{in: "HTTP/1.0 503 Wait\r\nA: b\r\n\r\nbody", status: 503, size: 27},
		{in: "HTTP/1.1 204\r\n\r\n", status: 204, size: 16},
		{in: "HTTP/1.1 200 OK\nA: b\n\nbody", status: 200, size: 22},
		{in: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", status: 200, size: 44},
		{in: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1"},
		{in: "HTTP/2 200", bad: true},
		{in: "HTTP/1.1 20x OK\r\n\r\n", bad: true},
		{in: "HTTP/1.1 2000 OK\r\n\r\n", bad: true},
		{in: "HTTP/1.1 099 Odd\r\n\r\n", bad: true},
		{in: "\x16\x03\x01", bad: true},
	} {
		status, size, err := parseAnswer([]byte(test.in))
		if status != test.status || size != test.size || (err != nil) != test.bad {
			t.Errorf("parseAnswer(%q) = %d, %d, %v", test.in, status, size, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f.Fuzz(func(t *testing.T, in []byte) {
		status, size, err := parseAnswer(in)
		if size < 0 || size > len(in) || size > 0 && (status < 200 || status > 999 || err != nil) {
			t.Fatalf("parseAnswer(%q) = %d, %d, %v", in, status, size, err)
		}
		bodyComplete(in[:size], len(in)-size)
		// What comes later never changes what is known.
		if size > 0 {
			if again, same, err := parseAnswer(append(in[:size:size], "more"...)); again != status || same != size || err != nil {
				t.Fatalf("with more behind it: %d, %d, %v", again, same, err)
			}
		}
	})
}
