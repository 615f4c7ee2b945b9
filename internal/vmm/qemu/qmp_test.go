package qemu

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`

// order is one QMP command as QEMU gets it.
type order struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
	files     []*os.File
}

// qmp is the QEMU side of a QMP connection.
type qmp struct {
	conn *net.UnixConn
	in   *bufio.Reader
	oob  []byte // control messages that came with what was read last
}

func newQMP(conn *net.UnixConn) *qmp {
	q := &qmp{conn: conn}
	q.in = bufio.NewReader(q)
	return q
}

// Read implements io.Reader and keeps the descriptors that come along.
func (q *qmp) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := q.conn.ReadMsgUnix(p, oob)
	q.oob = append(q.oob, oob[:oobn]...)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// next returns the next command.
func (q *qmp) next() (o order, err error) {
	line, err := q.in.ReadBytes('\n')
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal(line, &o); err != nil {
		return o, err
	}
	messages, err := unix.ParseSocketControlMessage(q.oob)
	q.oob = nil
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return o, err
		}
		for _, fd := range fds {
			o.files = append(o.files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return o, err
}

func (q *qmp) say(lines ...string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintf(q.conn, "%s\n", line); err != nil {
			return err
		}
	}
	return nil
}

// serve greets and agrees to everything.
func (q *qmp) serve() {
	if q.say(greeting) != nil {
		return
	}
	for {
		if _, err := q.next(); err != nil || q.say(`{"return": {}}`) != nil {
			return
		}
	}
}

// listenQMP makes the monitor socket in dir, as QEMU does.
func listenQMP(dir string) (*net.UnixListener, error) {
	return net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, monitorSocket)})
}

// dialed returns a connected monitor and the QEMU side of it, past the handshake.
func dialed(t *testing.T) (*monitor, *qmp) {
	t.Helper()
	dir := t.TempDir()
	listener, err := listenQMP(dir)
	require.NoError(t, err)
	defer listener.Close()
	greeted := make(chan *qmp, 1)
	go func() {
		defer close(greeted)
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		q := newQMP(conn)
		if q.say(greeting) != nil {
			return
		}
		if o, err := q.next(); err == nil && o.Execute == "qmp_capabilities" && q.say(`{"return": {}}`) == nil {
			greeted <- q
		}
	}()
	m, err := connectMonitor(t.Context(), dir, nil)
	require.NoError(t, err)
	q, ok := <-greeted
	require.True(t, ok, "QMP begins with a greeting and qmp_capabilities")
	t.Cleanup(func() { m.conn.Close(); q.conn.Close(); <-m.broken })
	return m, q
}

// answering answers the commands that come with one script line list each, and returns them.
func (q *qmp) answering(scripts ...[]string) <-chan []order {
	done := make(chan []order, 1)
	go func() {
		var got []order
		defer func() { done <- got }()
		for _, lines := range scripts {
			o, err := q.next()
			if err != nil {
				return
			}
			got = append(got, o)
			if q.say(lines...) != nil {
				return
			}
		}
	}()
	return done
}

const agreed = `{"return": {}}`
