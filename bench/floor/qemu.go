package floor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// answerLimit bounds how long a guest may take for its first answer.
const answerLimit = 30 * time.Second

// qemu is one QEMU process with its monitor.
type qemu struct {
	cmd     *exec.Cmd
	dir     string
	monitor *net.UnixConn
	replies *bufio.Reader
	port    int // of the host, forwarded to the guest's 8080
}

// start runs QEMU on the snapshot, waiting for device state. The network is QEMU's own user
// network; guest addresses are the same as in the product.
func start(ctx context.Context, s Snapshot, dir, disk string) (*qemu, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "qmp.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	share := fmt.Sprintf("memory-backend-file,id=ram,size=%dM,mem-path=%s,share=off", s.MemoryMiB, s.file("memory"))
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-M", "microvm,memory-backend=ram,suppress-vmdesc=on", "-accel", s.Accel, "-cpu", s.CPU,
		"-smp", fmt.Sprint(s.CPUs), "-m", fmt.Sprint(s.MemoryMiB), "-object", share,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-global", "virtio-mmio.force-legacy=false", "-global", "migration.send-configuration=off",
		// Nobody needs to hear where the guest is now.
		"-global", "migration.announce-rounds=0",
		"-chardev", "ringbuf,id=console,size=65536", "-serial", "chardev:console",
		"-qmp", "unix:qmp.sock,server=on,wait=off",
		"-blockdev", "driver=file,node-name=root0,read-only=on,filename="+s.file("rootfs.img"),
		"-blockdev", "driver=raw,node-name=root,read-only=on,file=root0", "-device", "virtio-blk-device,drive=root,serial=root",
		"-blockdev", "driver=file,node-name=data0,cache.no-flush=on,discard=unmap,filename="+disk,
		"-blockdev", "driver=raw,node-name=data,discard=unmap,file=data0", "-device", "virtio-blk-device,drive=data,serial=data",
		"-netdev", fmt.Sprintf("user,id=net0,hostfwd=tcp:127.0.0.1:%d-:8080", port),
		"-device", "virtio-net-device,netdev=net0,guest_announce=off,mac=52:54:00:12:34:56", "-device", "virtio-rng-device",
		"-incoming", "defer")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	q := &qemu{cmd: cmd, dir: dir, port: port}
	if err := q.connect(socket); err != nil {
		q.kill()
		return nil, fmt.Errorf("connect to QEMU: %w", err)
	}
	return q, nil
}

func (q *qemu) connect(socket string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: socket})
		if err == nil {
			q.monitor, q.replies = conn, bufio.NewReaderSize(conn, 1<<20)
			break
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(500 * time.Microsecond)
	}
	if _, err := q.replies.ReadString('\n'); err != nil { // the greeting
		return err
	}
	return q.command("qmp_capabilities", nil)
}

// command runs a monitor command, passing file along if there is one.
func (q *qemu) command(name string, arguments map[string]any, file ...*os.File) error {
	text, err := json.Marshal(struct {
		Execute   string         `json:"execute"`
		Arguments map[string]any `json:"arguments,omitempty"`
	}{name, arguments})
	if err != nil {
		return err
	}
	var rights []byte
	if len(file) == 1 {
		rights = unix.UnixRights(int(file[0].Fd()))
	}
	if _, _, err := q.monitor.WriteMsgUnix(append(text, '\n'), rights, nil); err != nil {
		return err
	}
	for {
		line, err := q.replies.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("QMP %s: %w", name, err)
		}
		var reply struct {
			Event string          `json:"event"`
			Error json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(line, &reply); err != nil {
			return err
		}
		if reply.Error != nil {
			return fmt.Errorf("QMP %s: %s", name, reply.Error)
		}
		if reply.Event == "" {
			return nil
		}
	}
}

// load has QEMU read device state; the guest runs as soon as that is done.
func (q *qemu) load(state string) error {
	file, err := os.Open(state)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := q.command("getfd", map[string]any{"fdname": "state"}, file); err != nil {
		return err
	}
	return q.command("migrate-incoming", map[string]any{"uri": "fd:state"})
}

func (q *qemu) kill() {
	_ = q.cmd.Process.Kill()
	_ = q.cmd.Wait()
	if q.monitor != nil {
		q.monitor.Close()
	}
}

// request sends one GET / and reads a 200 whole. It may be sent before the guest runs: QEMU's user
// network accepts the connection itself and holds it until the guest answers.
func (q *qemu) request() error {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", q.port))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: floor\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return fmt.Errorf("read the guest's answer: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the guest answered %s", response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
