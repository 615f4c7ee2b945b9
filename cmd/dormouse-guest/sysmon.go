package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// sysmonNice is the lowest priority there is.
const sysmonNice = 19

// quietSysmon lets the monitor thread of the Go runtime wait until nothing else wants the CPU. It
// wakes up with the first call that returns to Go after a restore and then looks around every 20 µs
// for a while (runtime.sysmon): on a single CPU that is two switches of threads each time, a
// twentieth of all that a guest under emulation does until it has answered. At this priority it does
// not preempt anybody, and still gets its turn next to an app that never sleeps.
func quietSysmon() error {
	id, err := secondThread("/proc/self/task", os.Getpid())
	if err != nil {
		return fmt.Errorf("find the runtime's monitor thread: %w", err)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, id, sysmonNice); err != nil {
		return fmt.Errorf("lower the priority of the runtime's monitor thread: %w", err)
	}
	return nil
}

// secondThread returns the id of the thread that was started first after the main one: the runtime
// starts its monitor before it runs main, and a new machine counts upwards.
func secondThread(tasks string, mainThread int) (int, error) {
	entries, err := os.ReadDir(tasks)
	if err != nil {
		return 0, err
	}
	second := 0
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err == nil && id != mainThread && (second == 0 || id < second) {
			second = id
		}
	}
	if second == 0 {
		return 0, errors.New("there is no other thread")
	}
	return second, nil
}
