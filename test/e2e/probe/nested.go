package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// nested is what a container inside the app's container sees.
type nested struct {
	PID        int      `json:"pid"`
	Hostname   string   `json:"hostname"`
	Interfaces []string `json:"interfaces"`
	Root       []string `json:"root"`
}

func tellNested() {
	n := nested{PID: os.Getpid()}
	n.Hostname, _ = os.Hostname()
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		n.Interfaces = append(n.Interfaces, i.Name)
	}
	entries, _ := os.ReadDir("/")
	for _, e := range entries {
		n.Root = append(n.Root, e.Name())
	}
	_ = json.NewEncoder(os.Stdout).Encode(n)
}

// runNested runs this program with runc, on an overlay, in namespaces of its own.
func runNested() (n nested, err error) {
	bundle, err := scratch()
	if err != nil {
		return n, err
	}
	root, err := overlay()
	if err != nil {
		return n, fmt.Errorf("overlay: %w", err)
	}
	defer func() { _ = unix.Unmount(root, unix.MNT_DETACH) }()
	type object = map[string]any
	namespaces := []object{}
	for _, kind := range []string{"pid", "network", "ipc", "uts", "mount", "cgroup"} {
		namespaces = append(namespaces, object{"type": kind})
	}
	spec, err := json.Marshal(object{
		"ociVersion": "1.0.2", "hostname": "nested", "root": object{"path": root},
		"process": object{"args": []string{"/probe", "nested"}, "cwd": "/", "user": object{"uid": 0, "gid": 0}, "env": []string{"PATH=/"}},
		"mounts": []object{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755"}},
		},
		"linux": object{"namespaces": namespaces, "resources": object{"pids": object{"limit": 100}}},
	})
	if err != nil {
		return n, err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), spec, 0o600); err != nil {
		return n, err
	}
	cmd := exec.CommandContext(context.Background(), "/runc", "--root", "/data/runc", "run", "--bundle", bundle, filepath.Base(bundle))
	cmd.Env = []string{"PATH=/", "TMPDIR=/data", "XDG_RUNTIME_DIR=/data"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return n, fmt.Errorf("%w: %s", err, out)
	}
	return n, json.Unmarshal(out, &n)
}
