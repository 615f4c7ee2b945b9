package doctor

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/vmm/qemu"
)

func TestEveryProblemHasAFixAndTheRightWeight(t *testing.T) {
	plenty := limits{files: 1 << 20, processes: 1 << 20, fileSize: unix.RLIM_INFINITY}
	failed := errors.New("operation not permitted")
	tests := []struct {
		name    string
		finding Finding
		want    Status
	}{
		{"KVM", acceleratorFinding(qemu.KVM, "why", nil), OK},
		{"TCG", acceleratorFinding(qemu.TCG, "why", nil), Warn},
		{"hardware isolation", isolationFinding(qemu.KVM), OK},
		{"software isolation", isolationFinding(qemu.TCG), Warn},
		{"QEMU", qemuFinding("qemu 7.2.22 (Debian 1:7.2), microvm, tcg, cpu max", nil), OK},
		{"newer QEMU", qemuFinding("qemu 10.0.2, microvm, tcg, cpu max", nil), OK},
		{"older QEMU", qemuFinding("qemu 7.1.0, microvm, tcg, cpu max", nil), Fail},
		{"much older QEMU", qemuFinding("qemu 6.2.0, microvm, tcg, cpu max", nil), Fail},
		{"no QEMU", qemuFinding("", exec.ErrNotFound), Fail},
		{"mke2fs", mke2fsFinding("/usr/sbin/mke2fs", nil), OK},
		{"no mke2fs", mke2fsFinding("", &exec.Error{Name: "mke2fs", Err: exec.ErrNotFound}), Fail},
		{"mke2fs that cannot be run", mke2fsFinding("", &exec.Error{Name: "mke2fs", Err: fs.ErrPermission}), Fail},
		{"assets", assetsFinding(nil), OK},
		{"missing assets", assetsFinding(errors.New("asset kernel is missing")), Fail},
		{"user namespaces", namespaceFinding(nil, false, nil), OK},
		{"user namespaces forbidden by nobody known", namespaceFinding(failed, false, nil), Warn},
		{"user namespaces forbidden", namespaceFinding(failed, false, []string{"user.max_user_namespaces=0"}), Warn},
		{"root needs no user namespaces", namespaceFinding(failed, true, nil), OK},
		{"much space", spaceFinding(100*gib, nil), OK},
		{"some space", spaceFinding(5*gib, nil), Warn},
		{"no space", spaceFinding(gib, nil), Fail},
		{"unreadable data folder", spaceFinding(0, fs.ErrPermission), Fail},
		{"reflink", reflinkFinding(nil), OK},
		{"no reflink", reflinkFinding(unix.EOPNOTSUPP), Warn},
		{"data folder that cannot be written", reflinkFinding(unix.EACCES), Fail},
		{"read-only data folder", reflinkFinding(unix.EROFS), Fail},
		{"limits", limitsFinding(plenty, nil), OK},
		{"few files", limitsFinding(limits{files: 1024, processes: 1 << 20, fileSize: unix.RLIM_INFINITY}, nil), Warn},
		{"small files", limitsFinding(limits{files: 1 << 20, processes: 1 << 20, fileSize: 1 << 20}, nil), Warn},
		{"guest memory", memoryFinding(nil, 0, false), OK},
		{"guest memory after a restart", memoryFinding(nil, 1, false), Warn},
		{"guest memory as root", memoryFinding(nil, 1, true), OK},
		{"no guest memory", memoryFinding(failed, 3, false), Fail},
		{"page map scan", scanFinding(nil), OK},
		{"no page map scan", scanFinding(unix.ENOTTY), OK},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, test.finding.Status, test.finding)
			require.NotEmpty(t, test.finding.Name)
			require.NotEmpty(t, test.finding.Detail)
			require.Equal(t, test.want == OK, test.finding.Fix == "", test.finding)
		})
	}
}

func TestIsolationIsWordedAsTheArchitectureWordsIt(t *testing.T) {
	require.Equal(t, "hardware virtualization", Isolation(qemu.KVM))
	require.Equal(t, "software emulation: for development and CI; QEMU does not treat TCG as a security boundary, "+
		"the process sandbox is the boundary", Isolation(qemu.TCG))
}

func TestOnlyFailuresMakeAHostUnhealthy(t *testing.T) {
	require.True(t, Healthy([]Finding{{Status: OK}, {Status: Warn}}))
	require.False(t, Healthy([]Finding{{Status: OK}, {Status: Fail}}))
}

func TestFindingsHaveStableJSON(t *testing.T) {
	raw, err := json.Marshal([]Finding{{Name: "disk space", Status: Warn, Detail: "3.0 GiB free", Fix: "make room"}, {Name: "QEMU", Status: OK, Detail: "qemu"}})
	require.NoError(t, err)
	require.JSONEq(t, `[{"name":"disk space","status":"warn","detail":"3.0 GiB free","fix":"make room"},
		{"name":"QEMU","status":"ok","detail":"qemu"}]`, string(raw))
}

func TestACheckLooksAtEverythingAndLeavesNothingBehind(t *testing.T) {
	parent := t.TempDir()
	findings := Check(t.Context(), Config{
		DataDir:     filepath.Join(parent, "not", "there", "yet"),
		QEMU:        filepath.Join(parent, "no-qemu"),
		Accelerator: qemu.TCG,
		Assets:      func() error { return errors.New("asset kernel is missing") },
	})
	var names []string
	for _, f := range findings {
		t.Logf("%-4s %s: %s (%s)", f.Status, f.Name, f.Detail, f.Fix)
		names = append(names, f.Name)
		require.NotEmpty(t, f.Detail)
	}
	require.Equal(t, []string{"accelerator", "isolation", "QEMU", "mke2fs", "assets", "user namespaces", "disk space",
		"reflink", "resource limits", "guest memory access", "PAGEMAP_SCAN"}, names)
	require.False(t, Healthy(findings), "QEMU and the assets are missing")
	left, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestTheNearestFolderThatExistsIsTheOneThatCounts(t *testing.T) {
	parent := t.TempDir()
	dir, err := existing(filepath.Join(parent, "a", "b"))
	require.NoError(t, err)
	require.Equal(t, parent, dir)
}

func TestADeviceClosedToTheUserIsOpenedByAGroup(t *testing.T) {
	closed := acceleratorFinding(qemu.TCG, "why", &fs.PathError{Op: "open", Path: "/dev/kvm", Err: fs.ErrPermission})
	require.Contains(t, closed.Fix, "usermod -aG kvm")
	require.NotContains(t, acceleratorFinding(qemu.TCG, "why", fs.ErrNotExist).Fix, "usermod")
}
