package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What /proc tells about processes, proc(5).

// descendants are the ids of all processes below pid, at the time of the call.
func descendants(pid int) []int {
	var found []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				found = append(append(found, child), descendants(child)...)
			}
		}
	}
	return found
}

// cpuTime is what all threads of the processes have run, to the nanosecond: the first number of
// schedstat. Times of threads and processes that ended are gone from it.
func cpuTime(pids ...int) time.Duration {
	var total time.Duration
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, task := range tasks {
			text, _ := os.ReadFile(task)
			first, _, _ := strings.Cut(string(text), " ")
			nanoseconds, _ := strconv.ParseInt(first, 10, 64)
			total += time.Duration(nanoseconds)
		}
	}
	return total
}

// commandLine is a process's arguments, one string each; nil when it is gone.
func commandLine(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// kilobytes finds a "Name:   123 kB" line of a file in /proc and returns it in bytes.
func kilobytes(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name+":"); found {
			number, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return number << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no line %s", path, name)
}

func residentBytes(pid int) (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
}

// proportionalBytes is the process's PSS: memory shared with n others counts as a part in n+1.
func proportionalBytes(pid int) (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss")
}

// privateBytesOf is how much of its mappings of file the process has made its own by writing,
// and whether all of these mappings are private ones, which leave the file as it is.
func privateBytesOf(pid int, file string) (anonymous int64, private bool, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, false, err
	}
	inside, private := false, true
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"): // 7f00-7f80 rw-p 0000 fe:00 1234 /path
			inside = len(fields) == 6 && fields[5] == file
			private = private && (!inside || !strings.HasSuffix(fields[1], "s"))
		case inside && fields[0] == "Anonymous:":
			kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0, false, err
			}
			anonymous += kilobytes << 10
		}
	}
	return anonymous, private, lines.Err()
}

// allocatedBytes is what a file, or all files below a folder, take on disk; holes take nothing.
func allocatedBytes(path string) (total int64, err error) {
	err = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && info.Mode().IsRegular() {
			total += info.Sys().(*syscall.Stat_t).Blocks * 512 // stat(2): units of 512 bytes
		}
		return err
	})
	return total, err
}
