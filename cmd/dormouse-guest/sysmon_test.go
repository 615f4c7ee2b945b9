package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestTheSecondThreadIsTheOldestButTheMainOne(t *testing.T) {
	dir := t.TempDir()
	if _, err := secondThread(dir, 1); err == nil {
		t.Error("found a thread where there is none")
	}
	for _, name := range []string{"1", "30", "7", "104", "x"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if id, err := secondThread(dir, 1); err != nil || id != 7 {
		t.Errorf("got %d, %v", id, err)
	}
}

// The monitor is asleep in a program that sleeps; in one that computes it is the thread that goes on waking up.
func TestTheSecondThreadIsTheMonitor(t *testing.T) {
	if os.Getenv("COMPUTE") != "" {
		for i := 0; ; i++ {
			if i == 1 {
				os.Stdout.WriteString("begun\n")
			}
		}
	}
	program := exec.Command(os.Args[0], "-test.run=^TestTheSecondThreadIsTheMonitor$")
	program.Env = append(os.Environ(), "COMPUTE=1", "GOMAXPROCS=1")
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		program.Process.Kill()
		program.Wait()
	}()
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	tasks := filepath.Join("/proc", strconv.Itoa(program.Process.Pid), "task")
	id, err := secondThread(tasks, program.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	before := switches(t, tasks, id)
	for range 1000 { // some seconds on a busy machine
		if switches(t, tasks, id) > before+2 {
			return
		}
		exec.Command("true").Run() // lets time pass
	}
	t.Error("the thread does not wake up by itself")
}

// switches is how often a thread went to sleep by itself.
func switches(t *testing.T, tasks string, id int) (n int) {
	t.Helper()
	status, err := os.ReadFile(filepath.Join(tasks, strconv.Itoa(id), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "\nvoluntary_ctxt_switches:")
	line, _, _ := strings.Cut(after, "\n")
	if n, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return n
}
