package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// startLocally starts a process as the agent does, but for the container: test machines have none.
func startLocally(r *guest.ExecRequest) (*process, error) {
	root, err := openImageRoot("/")
	if err != nil {
		return nil, err
	}
	defer root.close()
	p := &process{tty: r.TTY}
	theirs, err := p.open(r, &execTarget{root: root})
	defer closeAll(theirs)
	if err != nil {
		return nil, err
	}
	var files []uintptr
	for i := range 3 {
		files = append(files, uintptr(theirs[min(i, len(theirs)-1)]))
	}
	args := r.Args
	if len(args) == 0 {
		args = []string{"/bin/sh"}
	}
	p.pid, err = syscall.ForkExec("/bin/sh", append([]string{"/bin/sh", "-c", `exec "$@"`, "sh"}, args...), &syscall.ProcAttr{
		Env: []string{"PATH=/usr/bin:/bin", "PS1=$ ", terminalKind}, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: r.TTY},
	})
	if err != nil {
		p.close()
		return nil, err
	}
	exit := make(chan unix.WaitStatus, 1)
	p.exit = exit
	go func() {
		var status unix.WaitStatus
		if pid, err := unix.Wait4(p.pid, &status, 0, nil); err == nil && pid == p.pid {
			exit <- status
		}
	}()
	return p, nil
}

// run starts a process through the protocol.
func runExec(t *testing.T, r guest.ExecRequest) *guest.Process {
	t.Helper()
	client, _, _ := startServer(t, func(s *server) { s.exec = startLocally })
	p, err := client.Exec(deadline(t), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// outcome reads everything that a process says.
func outcome(t *testing.T, p *guest.Process) (stdout, stderr []byte, code int) {
	t.Helper()
	for {
		out, err := p.Next()
		switch {
		case err != nil:
			t.Fatalf("after %q and %q: %v", stdout, stderr, err)
		case out.Exited:
			return stdout, stderr, out.Code
		case out.Stderr:
			stderr = append(stderr, out.Data...)
		default:
			stdout = append(stdout, out.Data...)
		}
	}
}

// until reads what a terminal shows until a text is in it.
func until(t *testing.T, p *guest.Process, text string) (shown string) {
	t.Helper()
	for !strings.Contains(shown, text) {
		out, err := p.Next()
		if err != nil || out.Exited {
			t.Fatalf("%q did not come, but %q, %+v, %v", text, shown, out, err)
		}
		shown += string(out.Data)
	}
	return shown
}

func TestOutputErrorsAndExitCodeComeApart(t *testing.T) {
	p := runExec(t, guest.ExecRequest{Args: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}})
	stdout, stderr, code := outcome(t, p)
	if string(stdout) != "out\n" || string(stderr) != "err\n" || code != 7 {
		t.Errorf("%q, %q, %d", stdout, stderr, code)
	}
	if _, err := p.Next(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

func TestAProcessThatASignalEndedSaysSo(t *testing.T) {
	p := runExec(t, guest.ExecRequest{Args: []string{"sleep", "100"}})
	if err := p.Signal(uint8(unix.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if _, _, code := outcome(t, p); code != 128+15 {
		t.Errorf("code %d", code)
	}
}

func TestManyBytesPassUnchangedBothWays(t *testing.T) {
	p := runExec(t, guest.ExecRequest{Args: []string{"cat"}})
	sent := make([]byte, 10<<20)
	rand.Read(sent)
	go func() {
		_ = p.Input(sent)
		_ = p.EndInput()
	}()
	stdout, _, code := outcome(t, p)
	if sha256.Sum256(stdout) != sha256.Sum256(sent) || code != 0 {
		t.Errorf("%d bytes of %d, code %d", len(stdout), len(sent), code)
	}
}

func TestInputWaitsForAProcessThatDoesNotReadAndTheRestStillWorks(t *testing.T) {
	p := runExec(t, guest.ExecRequest{Args: []string{"sh", "-c", "echo ready; sleep 100"}})
	until(t, p, "ready")
	blocked := make(chan error, 1)
	go func() { blocked <- p.Input(make([]byte, 4*guest.ExecWindow)) }()
	select {
	case err := <-blocked:
		t.Fatalf("a megabyte went to a process that reads nothing: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := p.Signal(uint8(unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if _, _, code := outcome(t, p); code != 128+9 {
		t.Errorf("code %d", code)
	}
	p.Close()
	<-blocked // with an error or without: what a process did not want is thrown away
}

func TestAProcessThatWantsNoInputIsNotHeldUpByIt(t *testing.T) {
	p := runExec(t, guest.ExecRequest{Args: []string{"sh", "-c", "exec <&-; sleep 0.2; echo done"}})
	go func() { _ = p.Input(make([]byte, 4*guest.ExecWindow)) }()
	if stdout, _, code := outcome(t, p); string(stdout) != "done\n" || code != 0 {
		t.Errorf("%q, %d", stdout, code)
	}
}

func TestATerminalHasNoSizeUntilItIsGivenOne(t *testing.T) {
	p := runExec(t, guest.ExecRequest{TTY: true})
	_ = p.Input([]byte("stty size; tty; echo A$((1+1))\n"))
	if shown := until(t, p, "A2"); !strings.Contains(shown, "0 0\r\n") || !strings.Contains(shown, "/dev/pts/") {
		t.Errorf("the terminal shows %q", shown)
	}
	if err := p.Resize(120, 40); err != nil {
		t.Fatal(err)
	}
	_ = p.Input([]byte("stty size; echo B$((1+1))\n"))
	if shown := until(t, p, "B2"); !strings.Contains(shown, "40 120\r\n") {
		t.Errorf("the terminal shows %q", shown)
	}
	_ = p.Input([]byte("exit 3\n"))
	if _, _, code := outcome(t, p); code != 3 {
		t.Errorf("code %d", code)
	}
}

func TestATerminalMayBeginWithASize(t *testing.T) {
	p := runExec(t, guest.ExecRequest{Args: []string{"stty", "size"}, TTY: true, Cols: 80, Rows: 24})
	if stdout, _, code := outcome(t, p); string(stdout) != "24 80\r\n" || code != 0 {
		t.Errorf("%q, %d", stdout, code)
	}
}

func TestCtrlCInterruptsTheForegroundJobAndTheEndOfInputEndsTheShell(t *testing.T) {
	p := runExec(t, guest.ExecRequest{TTY: true})
	until(t, p, "$ ")
	_ = p.Input([]byte("sh -c 'echo begun$((1)); exec sleep 100'\n"))
	until(t, p, "begun1")
	_ = p.Input([]byte{3})
	until(t, p, "^C")
	_ = p.Input([]byte("echo code $?\n"))
	until(t, p, "code 130\r\n")
	if err := p.EndInput(); err != nil {
		t.Fatal(err)
	}
	if _, _, code := outcome(t, p); code != 0 {
		t.Errorf("code %d", code)
	}
}

func TestAJobInTheBackgroundDoesNotHoldUpTheEnd(t *testing.T) {
	p := runExec(t, guest.ExecRequest{Args: []string{"sh", "-c", "echo $$; sleep 100 & exit 4"}})
	stdout, _, code := outcome(t, p)
	if code != 4 {
		t.Errorf("code %d", code)
	}
	leader, err := strconv.Atoi(strings.TrimSpace(string(stdout)))
	if err != nil {
		t.Fatal(err)
	}
	if members := sessionOf(leader); len(members) != 1 {
		t.Errorf("the job should live on, alone: %v", members)
	}
	signalSession(leader, unix.SIGKILL)
}

func TestTheWholeSessionEndsWithTheConnection(t *testing.T) {
	for name, leave := range map[string]func(*guest.Process) error{
		"closed":     func(p *guest.Process) error { return p.Close() },
		"hung up on": func(p *guest.Process) error { p.HangUp(errTest); return nil },
	} {
		for _, tty := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, terminal %v", name, tty), func(t *testing.T) {
				// Two that do not heed SIGHUP, one of them in a process group of its own and stopped.
				script := `trap '' HUP; (sleep 100) & setsid -w true; sh -c 'kill -STOP $$; sleep 100' & echo leader $$; sleep 100`
				p := runExec(t, guest.ExecRequest{Args: []string{"sh", "-mc", script}, TTY: tty})
				_, shown, _ := strings.Cut(until(t, p, "leader "), "leader ")
				for !strings.Contains(shown, "\n") {
					out, err := p.Next()
					if err != nil {
						t.Fatal(err)
					}
					shown += string(out.Data)
				}
				var leader int
				if _, err := fmt.Sscanf(shown, "%d", &leader); err != nil {
					t.Fatal(err)
				}
				waitFor(t, func() bool { return len(sessionOf(leader)) >= 3 })
				if err := leave(p); err != nil {
					t.Fatal(err)
				}
				waitFor(t, func() bool { return len(sessionOf(leader)) == 0 })
				if name == "hung up on" {
					for {
						if _, err := p.Next(); err != nil {
							if !errors.Is(err, errTest) {
								t.Errorf("next says %v", err)
							}
							return
						}
					}
				}
			})
		}
	}
}

var errTest = errors.New("the reason")

func TestTheHostMayNotSendMoreThanTheWindow(t *testing.T) {
	input := newExecInput()
	if !input.add(make([]byte, guest.ExecWindow)) || input.add([]byte{1}) {
		t.Error("the window is not what was agreed on")
	}
	data, _ := input.next()
	if len(data) != guest.ExecWindow || input.add([]byte{1}) {
		t.Error("what is being written counts as taken")
	}
	input.took()
	if !input.add([]byte{1}) {
		t.Error("there is no room although everything was taken")
	}
}

func TestProcessesOfOneVMAreBounded(t *testing.T) {
	client, s, _ := startServer(t, func(s *server) { s.exec = startLocally })
	s.execs.Store(guest.MaxExecs)
	_, err := client.Exec(deadline(t), guest.ExecRequest{Args: []string{"true"}})
	var refused guest.AgentError
	if !errors.As(err, &refused) || !strings.Contains(string(refused), "64 processes") {
		t.Errorf("%v", err)
	}
	waitFor(t, func() bool { return s.execs.Load() == guest.MaxExecs })
}

func TestWithoutAnAppThereIsNothingToRunBeside(t *testing.T) {
	client, _, _ := startServer(t, nil)
	_, err := client.Exec(deadline(t), guest.ExecRequest{})
	var refused guest.AgentError
	if !errors.As(err, &refused) || string(refused) != errNoApp.Error() {
		t.Errorf("%v", err)
	}
}

func TestSessionsAreReadAlsoWhereNamesMislead(t *testing.T) {
	for stat, want := range map[string]bool{
		"12 (sh) S 1 12 12 34816 12": true, "12 (a) S 1 2 3) R 1 5 12 0 0": true, "12 (sh) Z 1 12 12 0": false,
		"12 (sh) S 1 12 13 0": false, "": false, "12 (sh)": false, "12 (sh) S 1": false,
	} {
		if got := inSession(stat, 12); got != want {
			t.Errorf("%q: %v", stat, got)
		}
	}
}

func TestAThreadThatWasInAnotherNamespaceComesBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root may enter namespaces; the end-to-end tests do")
		return
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	called := false
	if err := inPIDNamespace(fd, func() error { called = true; return errTest }); !errors.Is(err, errTest) || !called {
		t.Errorf("%v", err)
	}
}

// The stage hides its whole process; the tests' own does so for a moment.
func TestTheStageCannotBeTraced(t *testing.T) {
	dumpable := func() int {
		is, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	if dumpable() != 1 {
		t.Fatal("the tests hide themselves, so there is nothing to see")
	}
	if err := hide(); err != nil {
		t.Fatal(err)
	}
	hidden := dumpable() == 0
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if !hidden {
		t.Error("the stage may be traced")
	}
}
