package qemu

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

func TestEveryCommandGetsItsOwnAnswerWhateverEventsComeBetween(t *testing.T) {
	m, q := dialed(t)
	script := func(n string) []string {
		return []string{`{"event": "STOP", "timestamp": {"seconds": 1}}`, `{"return": {"n": ` + n + `}}`, `{"event": "RESUME"}`}
	}
	q.answering(script("1"), script("2"), script("3"))
	for want := 1; want <= 3; want++ {
		var got struct{ N int }
		require.NoError(t, m.execute(t.Context(), "query", nil, &got))
		require.Equal(t, want, got.N)
	}
}

func TestEventsThatNobodyReadsNeverHoldUpAnAnswer(t *testing.T) {
	m, q := dialed(t)
	q.answering(append(slicesOf(10*cap(m.events), `{"event": "FLOOD"}`), agreed))
	require.NoError(t, m.execute(t.Context(), "stop", nil, nil))
}

func slicesOf(n int, line string) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = line
	}
	return lines
}

func TestAnErrorNamesTheCommandAndWhatQEMUSays(t *testing.T) {
	m, q := dialed(t)
	q.answering([]string{`{"error": {"class": "GenericError", "desc": "no such node"}}`}, []string{agreed})
	err := m.execute(t.Context(), "blockdev-add", nil, nil)
	require.EqualError(t, err, "QMP blockdev-add: GenericError: no such node")
	require.NotErrorIs(t, err, vmm.ErrExited)
	require.NoError(t, m.execute(t.Context(), "cont", nil, nil), "the monitor goes on after an error")
}

func TestAnAnswerOfAnotherShapeIsAnError(t *testing.T) {
	m, q := dialed(t)
	q.answering([]string{`{"return": [1, 2]}`})
	var status struct{ Running bool }
	require.ErrorContains(t, m.execute(t.Context(), "query-status", nil, &status), "QMP query-status: parse the answer")
}

func TestWhatIsNotQMPEndsTheMonitor(t *testing.T) {
	for name, c := range map[string]struct{ sent, want string }{
		"no JSON":                     {"hello\n", "parse a QMP message"},
		"a message without end":       {strings.Repeat("x", maxMessage+(128<<10)), "exceeds 1048576 bytes"},
		"answers that nobody asked":   {agreed + "\n" + agreed + "\n", "answers no command"},
		"the connection just closing": {"", "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			m, q := dialed(t)
			_, _ = q.conn.Write([]byte(c.sent)) // the monitor may close before all of it is written
			q.conn.Close()
			<-m.broken
			_, err := m.await(t.Context(), func(event) bool { return true })
			require.ErrorIs(t, err, vmm.ErrExited)
			require.ErrorContains(t, err, c.want)
			require.ErrorIs(t, m.execute(t.Context(), "cont", nil, nil), vmm.ErrExited)
		})
	}
}

func TestACommandWhoseConnectionBreaksFails(t *testing.T) {
	m, q := dialed(t)
	go func() {
		_, _ = q.next()
		q.conn.Close()
	}()
	require.ErrorIs(t, m.execute(t.Context(), "stop", nil, nil), vmm.ErrExited)
}

func TestALateReplyIsNeverTakenForTheNextCommands(t *testing.T) {
	m, q := dialed(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = q.next()
		cancel()
	}()
	require.ErrorIs(t, m.execute(ctx, "xen-save-devices-state", nil, nil), context.Canceled)
	_ = q.say(`{"return": {"late": true}}`)
	require.ErrorIs(t, m.execute(t.Context(), "query-status", nil, nil), vmm.ErrExited)
}

func TestACommandThatWasNeverSentLeavesTheMonitorGood(t *testing.T) {
	m, q := dialed(t)
	q.answering([]string{agreed})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, m.execute(over, "stop", nil, nil), context.Canceled)
	require.NoError(t, m.execute(t.Context(), "cont", nil, nil))
}

func TestAFileTravelsWithItsCommand(t *testing.T) {
	m, q := dialed(t)
	path := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.WriteFile(path, []byte("device state"), 0o600))
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	orders := q.answering([]string{agreed}, []string{agreed})
	require.NoError(t, m.execute(t.Context(), "getfd", object{"fdname": "state"}, nil, file))
	require.NoError(t, m.execute(t.Context(), "cont", nil, nil))
	got := <-orders
	require.Len(t, got[0].files, 1)
	defer got[0].files[0].Close()
	content, err := io.ReadAll(got[0].files[0])
	require.NoError(t, err)
	require.Equal(t, "device state", string(content))
	require.Empty(t, got[1].files)
}

func TestAGreetingThatNeverComesIsNotWaitedForForever(t *testing.T) {
	dir := t.TempDir()
	listener, err := listenQMP(dir)
	require.NoError(t, err)
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if conn, err := listener.Accept(); err == nil {
			defer conn.Close()
		}
		cancel()
	}()
	_, err = connectMonitor(ctx, dir, nil)
	require.ErrorContains(t, err, "greeting")
}

func TestTheMonitorOfAProcessThatEndedIsNotWaitedFor(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	_, err := connectMonitor(t.Context(), t.TempDir(), ended)
	require.ErrorIs(t, err, vmm.ErrExited)
}

func TestTheMonitorSocketMayBeDeepInTheFileSystem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 40))
	require.NoError(t, os.MkdirAll(dir, 0o700))
	t.Chdir(dir)
	listener, err := listenQMP(".") // a unix socket path may not exceed 107 bytes
	require.NoError(t, err)
	defer listener.Close()
	conn, err := dialSocket(t.Context(), dir, monitorSocket, nil)
	require.NoError(t, err)
	conn.Close()
}

func FuzzDispatch(f *testing.F) {
	for _, seed := range []string{greeting, agreed, `{"event":"MIGRATION","data":{"status":"completed"}}`, `{"error":{"class":"c"}}`, `[]`, `null`, `{"event":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		m := &monitor{events: make(chan event, 1), replies: make(chan reply, 1)}
		for range 3 { // neither a full channel of events nor one of replies may block
			_ = m.dispatch(message)
		}
	})
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte(greeting+"\n"+agreed+"\n"), uint16(16))
	f.Add(bytes.Repeat([]byte("x"), 4096), uint16(20))
	f.Fuzz(func(t *testing.T, stream []byte, size uint16) {
		lines := bufio.NewReaderSize(bytes.NewReader(stream), int(size))
		var whole []byte
		for {
			message, err := readMessage(lines)
			if err != nil {
				break
			}
			require.True(t, bytes.HasSuffix(message, []byte("\n")))
			require.Equal(t, 1, bytes.Count(message, []byte("\n")))
			whole = append(whole, message...)
		}
		require.True(t, bytes.HasPrefix(stream, whole))
	})
}
