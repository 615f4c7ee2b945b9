package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine describes what the numbers were measured on.
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	MemoryMiB  int64  `json:"memory_mib"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"` // of the data folder
	QEMU       string `json:"qemu"`
	Accel      string `json:"accelerator"`
	GuestCPUs  int    `json:"guest_cpus"`
	GuestMiB   int    `json:"guest_memory_mib"`
	Load       string `json:"load_average"` // 1, 5 and 15 minutes, before the first round
	Version    string `json:"dormouse"`
	Date       string `json:"date"`
	Command    string `json:"command"`
}

func (b *bench) describeMachine() (machine, error) {
	m := machine{
		CPU: "unknown", Cores: runtime.NumCPU(), Accel: b.snapshot.Accel,
		GuestCPUs: b.snapshot.CPUs, GuestMiB: b.snapshot.MemoryMiB,
		Date: time.Now().UTC().Format("2006-01-02 15:04 UTC"), Command: commandText(),
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(cpuinfo)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	memory, err := kilobytes("/proc/meminfo", "MemTotal")
	if err != nil {
		return m, err
	}
	m.MemoryMiB = memory >> 20
	var system unix.Utsname
	if err := unix.Uname(&system); err != nil {
		return m, err
	}
	m.Kernel = unix.ByteSliceToString(system.Sysname[:]) + " " + unix.ByteSliceToString(system.Release[:])
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return m, err
	}
	m.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	if m.FileSystem, err = fileSystem(b.scratch); err != nil {
		return m, err
	}
	if m.QEMU, err = firstLine("qemu-system-x86_64", "--version"); err != nil {
		return m, err
	}
	m.Version, err = firstLine(b.options.binary, "version")
	return m, err
}

func commandText() string {
	return strings.TrimSpace("go run ./bench " + strings.Join(os.Args[1:], " "))
}

func firstLine(command string, arguments ...string) (string, error) {
	out, err := exec.Command(command, arguments...).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(line), nil
}

// fileSystem names the type of the file system a folder is on, by the longest mount point above it.
func fileSystem(dir string) (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	longest, kind := 0, "unknown"
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line) // device, mount point, type
		if len(fields) < 3 {
			continue
		}
		point := strings.TrimSuffix(fields[1], "/")
		if (dir == point || strings.HasPrefix(dir, point+"/")) && len(point) >= longest {
			longest, kind = len(point), fields[2]
		}
	}
	return kind, nil
}
