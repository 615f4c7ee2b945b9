package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// dialTo is a VM whose agent is a function.
func dialTo(agent func(net.Conn)) Dialer {
	return func(context.Context, uint16) (net.Conn, error) {
		host, guest := net.Pipe()
		go func() {
			defer guest.Close()
			agent(guest)
		}()
		return host, nil
	}
}

// answering takes the preamble and one call, and answers with reply.
func answering(reply CallReply, secrets chan<- [SecretSize]byte) func(net.Conn) {
	return func(conn net.Conn) {
		p := readPreamble(conn)
		if secrets != nil {
			secrets <- p.Secret
		}
		var call Call
		if ReadJSON(conn, &call) == nil {
			WriteJSON(conn, reply)
		}
	}
}

func readPreamble(conn net.Conn) Preamble {
	var raw [PreambleSize]byte
	io.ReadFull(conn, raw[:])
	p, _ := ParsePreamble(raw[:])
	return p
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestBootReplacesTheSecretOnlyOnSuccess(t *testing.T) {
	first, second := [SecretSize]byte{1}, [SecretSize]byte{2}
	secrets := make(chan [SecretSize]byte, 1)
	reply := CallReply{Error: "exec \"/x\": no such file or directory"}
	c := New(func(ctx context.Context, port uint16) (net.Conn, error) {
		return dialTo(answering(reply, secrets))(ctx, port)
	}, first)
	err := c.Boot(testContext(t), BootRequest{Args: []string{"/x"}, Secret: second[:]})
	var agent AgentError
	if !errors.As(err, &agent) || string(agent) != reply.Error {
		t.Errorf("boot: %v", err)
	}
	<-secrets
	reply = CallReply{}
	if err := c.Boot(testContext(t), BootRequest{Args: []string{"/x"}, Secret: second[:]}); err != nil {
		t.Error(err)
	}
	if got := <-secrets; got != first {
		t.Error("a failed boot replaced the secret")
	}
	if err := c.Quiesce(testContext(t)); err != nil {
		t.Error(err)
	}
	if got := <-secrets; got != second {
		t.Error("a boot that succeeded did not replace the secret")
	}
}

func TestBootWithoutASecretIsNotSent(t *testing.T) {
	c := New(func(context.Context, uint16) (net.Conn, error) { panic("dialled") }, [SecretSize]byte{})
	if err := c.Boot(testContext(t), BootRequest{Args: []string{"/x"}}); err == nil {
		t.Error("it was taken")
	}
}

func TestHookReturnsWhatBecameOfIt(t *testing.T) {
	want := HookReply{Status: 503, Error: "x"}
	c := New(dialTo(func(conn net.Conn) {
		readPreamble(conn)
		frame, _ := ReadFrame(conn)
		if r, err := ParseHookRequest(frame); err == nil && r.Name == "ready" {
			WriteFrame(conn, AppendHookReply(nil, &want))
		}
	}), [SecretSize]byte{})
	if got, err := c.Hook(testContext(t), HookRequest{Name: "ready", Timeout: time.Second}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAGuestThatNeverAnswersEndsWithTheContext(t *testing.T) {
	silent := New(dialTo(func(conn net.Conn) { io.Copy(io.Discard, conn) }), [SecretSize]byte{})
	deaf := New(dialTo(func(net.Conn) { select {} }), [SecretSize]byte{})
	for _, c := range []*Client{silent, deaf} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Quiesce(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("quiesce: %v", err)
		}
		if _, err := c.Restore(ctx, RestoreRequest{}); !errors.Is(err, context.Canceled) {
			t.Errorf("restore: %v", err)
		}
		for _, err := range c.Events(ctx) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("events: %v", err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := deaf.Forward(ctx, 80); !errors.Is(err, context.Canceled) {
		t.Errorf("forward: %v", err)
	}
}

func TestRestoreTellsTheTimeOfTheMomentItIsAsked(t *testing.T) {
	told := make(chan uint64, 2)
	c := New(dialTo(func(conn net.Conn) {
		readPreamble(conn)
		ReadFrame(conn)
		for range 2 {
			conn.Write([]byte{ClockRequest})
			var now [8]byte
			io.ReadFull(conn, now[:])
			told <- binary.BigEndian.Uint64(now[:])
		}
		conn.Write([]byte{ClockDone})
		WriteFrame(conn, AppendRestoreReply(nil, &RestoreReply{Hook: HookReply{Status: 200}}))
	}), [SecretSize]byte{})
	c.now = func() time.Time { return time.Unix(0, 12345) }
	reply, err := c.Restore(testContext(t), RestoreRequest{Secret: [SecretSize]byte{5}})
	if err != nil || reply.Hook.Status != 200 {
		t.Fatalf("%+v, %v", reply, err)
	}
	for range 2 {
		if got := <-told; got != 12345 {
			t.Errorf("told %d", got)
		}
	}
	if c.secret != [SecretSize]byte{5} {
		t.Error("the secret was not replaced")
	}
}

func TestAGuestThatAsksForTheTimeForEverIsLeft(t *testing.T) {
	c := New(dialTo(func(conn net.Conn) {
		go io.Copy(io.Discard, conn)
		for {
			if _, err := conn.Write([]byte{ClockRequest}); err != nil {
				return
			}
		}
	}), [SecretSize]byte{})
	if _, err := c.Restore(testContext(t), RestoreRequest{}); !errors.Is(err, ErrCompact) {
		t.Errorf("restore: %v", err)
	}
}

func TestForwardHandsOutWhatFollowsTheStatus(t *testing.T) {
	c := New(dialTo(func(conn net.Conn) {
		if p := readPreamble(conn); p.Op != OpForward || p.Port != 8080 {
			return
		}
		conn.Write([]byte{byte(ForwardOK)})
		io.Copy(conn, conn)
	}), [SecretSize]byte{})
	conn, err := c.Forward(testContext(t), 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go conn.Write([]byte("hello"))
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestForwardTellsRefusalsByReadAndByWrite(t *testing.T) {
	for status, want := range map[ForwardStatus]error{ForwardRefused: ErrRefused, ForwardFailed: ErrForward, 77: ErrForward} {
		c := New(dialTo(func(conn net.Conn) {
			readPreamble(conn)
			conn.Write([]byte{byte(status)})
		}), [SecretSize]byte{})
		conn, err := c.Forward(testContext(t), 8080)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, want) {
				t.Errorf("status %d: read %v, want %v", status, err, want)
			}
		}
		if _, err := conn.Write([]byte("x")); !errors.Is(err, want) {
			t.Errorf("status %d: write %v, want %v", status, err, want)
		}
	}
}

func TestAForwardIsPendingUntilTheAppTakesItOrNobodyWaits(t *testing.T) {
	taken := make(chan ForwardStatus, 1)
	c := New(dialTo(func(conn net.Conn) {
		readPreamble(conn)
		if status, ok := <-taken; ok {
			conn.Write([]byte{byte(status), 'x'})
		}
	}), [SecretSize]byte{})
	for _, status := range []ForwardStatus{ForwardOK, ForwardRefused} {
		conn, err := c.Forward(testContext(t), 8080)
		if err != nil {
			t.Fatal(err)
		}
		before := conn.(*forwardConn).Pending()
		taken <- status
		_, _ = conn.Read(make([]byte, 1))
		if after := conn.(*forwardConn).Pending(); !before || after {
			t.Errorf("status %d: pending %v, then %v", status, before, after)
		}
		conn.Close()
	}
	conn, err := c.Forward(testContext(t), 8080)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	close(taken)
	if conn.(*forwardConn).Pending() {
		t.Error("a closed connection is pending")
	}
}

func TestForwardToPortZeroIsNotSent(t *testing.T) {
	c := New(func(context.Context, uint16) (net.Conn, error) { panic("dialled") }, [SecretSize]byte{})
	if _, err := c.Forward(testContext(t), 0); err == nil {
		t.Error("it was taken")
	}
}

func TestEventsEndWithTheReason(t *testing.T) {
	c := New(dialTo(func(conn net.Conn) {
		readPreamble(conn)
		WriteJSON(conn, Event{Log: &LogEvent{Stream: "stdout", Data: []byte("x")}})
		WriteJSON(conn, Event{Exit: &ExitEvent{Code: 3}})
	}), [SecretSize]byte{})
	var got []string
	for event, err := range c.Events(testContext(t)) {
		switch {
		case err != nil:
			got = append(got, err.Error())
		case event.Log != nil:
			got = append(got, string(event.Log.Data))
		default:
			got = append(got, "exit")
		}
	}
	if strings.Join(got, " ") != "x exit EOF" {
		t.Errorf("events %q", got)
	}
}

// FuzzClient lets a hostile guest answer every call with any bytes.
func FuzzClient(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add(AppendFrame(nil, AppendHookReply(nil, &HookReply{Status: 200})))
	f.Add(append([]byte{ClockRequest, ClockDone}, AppendFrame(nil, AppendRestoreReply(nil, &RestoreReply{}))...))
	f.Fuzz(func(t *testing.T, answer []byte) {
		c := New(dialTo(func(conn net.Conn) {
			go io.Copy(io.Discard, conn)
			conn.Write(answer)
		}), [SecretSize]byte{})
		ctx := testContext(t)
		c.Quiesce(ctx)
		c.Hook(ctx, HookRequest{})
		c.Restore(ctx, RestoreRequest{})
		for range c.Events(ctx) {
		}
		if conn, err := c.Forward(ctx, 1); err == nil {
			io.ReadAll(conn)
			conn.Close()
		}
		if ctx.Err() != nil {
			t.Fatal("a call outlived the guest")
		}
	})
}

// The agent links this package, and is copied into the memory of every image.
func TestThePackageNeedsOnlyTheStandardLibraryAndNoHTTP(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{.Standard}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		name, standard, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "net/http" || standard != "true" && !strings.HasSuffix(name, "/internal/guest") && !strings.HasPrefix(name, "golang.org/x/sys/") {
			t.Errorf("it depends on %s", name)
		}
	}
}

// cancelling is a connection whose write is the last thing before its context ends.
type cancelling struct {
	net.Conn
	cancel func()
}

func (c cancelling) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.cancel()
	return n, err
}

func TestConnectionWhoseContextEndedIsGivenToNobody(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dial := dialTo(func(conn net.Conn) { readPreamble(conn); io.Copy(io.Discard, conn) })
	c := New(func(ctx context.Context, port uint16) (net.Conn, error) {
		conn, err := dial(ctx, port)
		return cancelling{conn, cancel}, err
	}, [SecretSize]byte{})
	if conn, err := c.Forward(ctx, 80); !errors.Is(err, context.Canceled) || conn != nil {
		t.Errorf("it may have a deadline that has passed: %v, %v", conn, err)
	}
}
