package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// smallDisk is a command line prefix that runs a program with a disk of 96 MiB for microVMs. Only
// that program and its children see it; it goes when they end. Root mounts it as root, others in a
// user namespace of their own.
func smallDisk(h *host) []string {
	unshare := []string{"unshare", "--mount"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	const mount = `mount -t tmpfs -o size=96m none "$0" && exec "$@"`
	return append(unshare, "sh", "-c", mount, filepath.Join(h.Dir, "microvms"))
}

// requireFullDiskIsSurvived suspends a VM while there is no room for its checkpoint.
func requireFullDiskIsSurvived(t *testing.T, h *host, image string) {
	require.NoError(t, h.Stop())
	require.NoError(t, h.Start(smallDisk(h)...))
	defer func() { // back to the real disk, whatever happened
		require.NoError(t, h.Stop())
		require.NoError(t, h.Start())
	}()
	v := h.runUntilRunning(t, image, nil)
	nonce := v.makeNonce()
	vmm := v.vmm()
	// Through the daemon's own view of the file system.
	filler := fmt.Sprintf("/proc/%d/root%s/microvms/filler", h.PID(), h.Dir)
	fill(t, filler)

	v.call("SuspendMicrovm")
	failed := v.await("RUNNING")
	require.Equal(t, "The MicroVM could not be suspended because the host has no space left to save its state. It keeps running.", failed.StateReason)
	require.Equal(t, nonce, v.count().Nonce)
	require.Equal(t, vmm, v.vmm())
	events := v.events("suspend")
	last := events[len(events)-1]
	require.Equal(t, "RUNNING", last.To)
	require.Contains(t, last.Detail, "no space left to save its state")

	require.NoError(t, os.Remove(filler))
	v.suspend()
	v.call("ResumeMicrovm")
	require.Empty(t, v.await("RUNNING").StateReason)
	require.Equal(t, nonce, v.count().Nonce)
	v.call("TerminateMicrovm")
	v.await("TERMINATED")
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 64<<10))
	}
	for err = nil; err == nil; {
		_, err = file.Write([]byte{0})
	}
	require.True(t, errors.Is(err, syscall.ENOSPC), err)
}
