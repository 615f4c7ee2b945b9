package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// maxMessage bounds one QMP message, in bytes. QEMU has parsed what a guest sent; should it
// have been taken over, it must not take over the daemon's memory too.
const maxMessage = 1 << 20

// monitor is a QMP client (docs/interop/qmp-spec.txt of QEMU). It is our own because passing
// file descriptors along with a command is what keeps QEMU free of paths and helper processes,
// and no kept Go library for QMP does it.
type monitor struct {
	conn   *net.UnixConn
	events chan event // dropped when nobody reads: only Load waits for one

	replies chan reply
	broken  chan struct{} // closed when the connection has ended; err tells why
	breaks  sync.Once
	err     error // written before broken is closed
}

type event struct {
	Name string `json:"event"`
	Data struct {
		Status string `json:"status"`
	} `json:"data"`
}

type reply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// connectMonitor connects to the QMP socket in dir, waiting until QEMU has made it.
func connectMonitor(ctx context.Context, dir string, exited <-chan struct{}) (*monitor, error) {
	conn, err := dialSocket(ctx, dir, monitorSocket, exited)
	if err != nil {
		return nil, err
	}
	m := &monitor{conn: conn, events: make(chan event, 64), replies: make(chan reply, 1), broken: make(chan struct{})}
	lines := bufio.NewReaderSize(conn, 64<<10)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	_, err = readMessage(lines) // the greeting
	stop()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("read the QMP greeting: %w", err)
	}
	go m.read(lines)
	if err := m.execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

// dialSocket connects to a socket in a run folder, through the folder's descriptor, so that
// the path stays short. The socket appears some milliseconds after the process.
func dialSocket(ctx context.Context, dir, name string, exited <-chan struct{}) (*net.UnixConn, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	address := &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), name)}
	retry := time.NewTicker(time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := net.DialUnix("unix", nil, address)
		if err == nil {
			return conn, nil
		}
		select {
		case <-exited:
			return nil, vmm.ErrExited
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to %s: %w", name, errors.Join(ctx.Err(), err))
		case <-retry.C:
		}
	}
}

func readMessage(lines *bufio.Reader) ([]byte, error) {
	var message []byte
	for {
		part, err := lines.ReadSlice('\n')
		message = append(message, part...)
		if err == nil {
			return message, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(message) > maxMessage {
			return nil, fmt.Errorf("a QMP message exceeds %d bytes", maxMessage)
		}
	}
}

func (m *monitor) read(lines *bufio.Reader) {
	for {
		message, err := readMessage(lines)
		if err != nil {
			m.fail(err)
			return
		}
		if err := m.dispatch(message); err != nil {
			m.fail(err)
			return
		}
	}
}

// dispatch hands one message to whoever waits for it.
func (m *monitor) dispatch(message []byte) error {
	var e event
	if err := json.Unmarshal(message, &e); err != nil {
		return fmt.Errorf("parse a QMP message: %w", err)
	}
	if e.Name != "" {
		select {
		case m.events <- e:
		default:
		}
		return nil
	}
	var r reply
	if err := json.Unmarshal(message, &r); err != nil {
		return fmt.Errorf("parse a QMP reply: %w", err)
	}
	select {
	case m.replies <- r:
		return nil
	default:
		return errors.New("a QMP reply that answers no command")
	}
}

func (m *monitor) fail(err error) {
	m.breaks.Do(func() {
		m.err = fmt.Errorf("%w: QMP connection: %w", vmm.ErrExited, err)
		m.conn.Close()
		close(m.broken)
	})
}

// execute sends a command, with a file descriptor if file is given, and decodes what it returns into result.
// A command that ctx cuts short closes the monitor: its late reply would be taken for the next one's.
func (m *monitor) execute(ctx context.Context, command string, arguments, result any, file ...*os.File) error {
	if err := m.send(ctx, command, arguments, file...); err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	r, err := m.reply(ctx)
	if err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	if r.Error != nil {
		return fmt.Errorf("QMP %s: %s: %s", command, r.Error.Class, r.Error.Desc)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(r.Return, result); err != nil {
		return fmt.Errorf("QMP %s: parse the answer: %w", command, err)
	}
	return nil
}

func (m *monitor) send(ctx context.Context, command string, arguments any, file ...*os.File) error {
	if err := ctx.Err(); err != nil {
		return err // nothing was sent, so the monitor stays good
	}
	message, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return err
	}
	var rights []byte
	if len(file) == 1 {
		rights = unix.UnixRights(int(file[0].Fd()))
	}
	if _, _, err := m.conn.WriteMsgUnix(append(message, '\n'), rights, nil); err != nil {
		return fmt.Errorf("%w: %w", vmm.ErrExited, err)
	}
	return nil
}

func (m *monitor) reply(ctx context.Context) (reply, error) {
	select {
	case r := <-m.replies:
		return r, nil
	case <-m.broken:
		select {
		case r := <-m.replies: // it came just before the end
			return r, nil
		default:
			return reply{}, m.err
		}
	case <-ctx.Done():
		m.fail(ctx.Err())
		return reply{}, ctx.Err()
	}
}

// await waits for the first of the named events and returns it.
func (m *monitor) await(ctx context.Context, wanted func(event) bool) (event, error) {
	for {
		select {
		case e := <-m.events:
			if wanted(e) {
				return e, nil
			}
		case <-m.broken: // also when the process has ended
			return event{}, m.err
		case <-ctx.Done():
			return event{}, ctx.Err()
		}
	}
}
