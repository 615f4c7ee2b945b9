package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

// over returns a machine whose QEMU is q.
func over(t *testing.T) (*machine, *qmp) {
	t.Helper()
	monitor, q := dialed(t)
	return &machine{dir: t.TempDir(), process: &process{dir: t.TempDir(), done: make(chan struct{})}, monitor: monitor}, q
}

func said(orders []order) (names []string) {
	for _, o := range orders {
		names = append(names, fmt.Sprintf("%s %s (%d files)", o.Execute, o.Arguments, len(o.files)))
		for _, file := range o.files {
			file.Close()
		}
	}
	return names
}

func scratchFile(t *testing.T) *os.File {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	return file
}

func TestADiskIsAttachedByDescriptor(t *testing.T) {
	m, q := over(t)
	orders := q.answering([]string{agreed}, []string{agreed}, []string{agreed}, []string{agreed}, []string{agreed})
	require.NoError(t, m.AttachData(t.Context(), scratchFile(t).Name()))
	require.Equal(t, []string{
		`add-fd {"fdset-id":1} (1 files)`,
		`blockdev-add {"cache":{"no-flush":true},"discard":"unmap","driver":"file","filename":"/dev/fdset/1","locking":"off","node-name":"data1"} (0 files)`,
		`blockdev-reopen {"options":[{"discard":"unmap","driver":"raw","file":"data1","node-name":"data"}]} (0 files)`,
		`blockdev-del {"node-name":"data0"} (0 files)`,
		`remove-fd {"fdset-id":1} (0 files)`,
	}, said(<-orders))
}

// QEMU opens whichever file of the set it finds first, so one left behind would swallow the next state.
func TestAFailedSaveLeavesNoFileForTheNextToBeWrittenInto(t *testing.T) {
	m, q := over(t)
	orders := q.answering([]string{agreed}, []string{`{"error": {"class": "GenericError", "desc": "not now"}}`}, []string{agreed})
	require.ErrorContains(t, m.SaveState(t.Context(), scratchFile(t)), "save device state: QMP xen-save-devices-state: GenericError: not now")
	require.Equal(t, []string{
		`add-fd {"fdset-id":2} (1 files)`,
		`xen-save-devices-state {"filename":"/dev/fdset/2","live":false} (0 files)`,
		`remove-fd {"fdset-id":2} (0 files)`,
	}, said(<-orders))
}

func TestLoadEndsWhenQEMUSaysThatItHasLoaded(t *testing.T) {
	loading := func(status string) string { return `{"event": "MIGRATION", "data": {"status": "` + status + `"}}` }
	m, q := over(t)
	orders := q.answering([]string{agreed}, []string{loading("setup"), agreed, loading("active"), `{"event": "STOP"}`, loading("completed")})
	require.NoError(t, m.Load(t.Context(), scratchFile(t)))
	require.Equal(t, []string{`getfd {"fdname":"state"} (1 files)`, `migrate-incoming {"uri":"fd:state"} (0 files)`}, said(<-orders))
}

func TestLoadTellsWhatQEMUPrintedWhenItRefuses(t *testing.T) {
	m, q := over(t)
	require.NoError(t, os.WriteFile(filepath.Join(m.process.dir, vmm.LogFile), []byte("qemu: Unknown savevm section\n"), 0o600))
	orders := q.answering([]string{agreed}, []string{agreed, `{"event": "MIGRATION", "data": {"status": "failed"}}`})
	require.EqualError(t, m.Load(t.Context(), scratchFile(t)), "load device state: QEMU refused it; QEMU says: qemu: Unknown savevm section")
	said(<-orders)
}

func TestTheConsoleIsPassedOnAsItIs(t *testing.T) {
	m, q := over(t)
	q.answering([]string{`{"return": "b29wczogAP8="}`}, []string{`{"return": "!"}`})
	text, err := m.Console(t.Context())
	require.NoError(t, err)
	require.Equal(t, []byte("oops: \x00\xff"), text)
	_, err = m.Console(t.Context())
	require.Error(t, err)
}

func TestAMachineIsPausedUnlessQEMUSaysItRuns(t *testing.T) {
	m, q := over(t)
	q.answering([]string{`{"return": {"running": false, "status": "paused"}}`}, []string{`{"return": {"running": true}}`})
	paused, err := m.Paused(t.Context())
	require.NoError(t, err)
	require.True(t, paused)
	paused, err = m.Paused(t.Context())
	require.NoError(t, err)
	require.False(t, paused)
}
