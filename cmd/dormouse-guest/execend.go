package main

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// hangUpGrace is how long a session may take to end after SIGHUP.
	hangUpGrace = time.Second
	// hangUpPoll is how often it is looked whether it has.
	hangUpPoll = 20 * time.Millisecond
	// killRounds bounds how often a session that goes on forking is killed.
	killRounds = 50
)

// endSession ends the process and all others of its session, as the loss of a terminal does, and those
// that do not heed it by force. Who has left the session, as daemons do, lives on.
func (p *process) endSession() {
	p.close()
	signalSession(p.pid, unix.SIGHUP)
	signalSession(p.pid, unix.SIGCONT) // one that is stopped would not get it
	for deadline := time.Now().Add(hangUpGrace); time.Now().Before(deadline); time.Sleep(hangUpPoll) {
		if len(sessionOf(p.pid)) == 0 {
			return
		}
	}
	for range killRounds {
		if signalSession(p.pid, unix.SIGKILL) == 0 {
			return
		}
		time.Sleep(hangUpPoll)
	}
}

// signalSession returns how many processes the session has.
func signalSession(leader int, signal unix.Signal) int {
	members := sessionOf(leader)
	for _, pid := range members {
		_ = unix.Kill(pid, signal)
	}
	return len(members)
}

// sessionOf lists the processes of a session that have not ended.
func sessionOf(leader int) (members []int) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if stat, err := os.ReadFile("/proc/" + name + "/stat"); err == nil && inSession(string(stat), leader) {
			members = append(members, pid)
		}
	}
	return members
}

// inSession reads a line of proc_pid_stat(5): pid (name) state parent group session …; a name may hold
// anything.
func inSession(stat string, leader int) bool {
	_, rest, found := strings.Cut(stat[strings.LastIndexByte(stat, ')')+1:], " ")
	fields := strings.Fields(rest)
	return found && len(fields) >= 4 && fields[0] != "Z" && fields[0] != "X" && fields[3] == strconv.Itoa(leader)
}
