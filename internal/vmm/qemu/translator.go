package qemu

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/vmm"
)

const (
	pageSize = 4096
	// maxVectors is how many places one process_vm_writev can write to (IOV_MAX).
	maxVectors = 1024
	// translatedBytes is about what QEMU has translated when a guest has answered for the first time
	// (14 MiB in 25,000 blocks, measured with 7.2).
	translatedBytes = 16 << 20
	// translatorSize is larger than every other mapping that is anonymous, writable and executable: QEMU
	// gives the translation buffer 1 GiB, and less only where memory is short.
	translatorSize = 64 << 20
)

// withoutHugePages keeps the kernel from backing the memory of this process and of the VMMs it
// starts with huge pages. QEMU asks for them for its translation buffer; a fresh one has to be
// zeroed whole, 2-5 ms each where the host is itself a VM, and a burst of launches finds only
// fresh ones: 19 of 249 ms of CPU time per launch.
func withoutHugePages() error { return unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0) }

// warmTranslator has the kernel provide the memory that QEMU will soon translate guest code into, while
// nobody waits for the guest: page by page it would be a twentieth of a launch. The buffer is
// filled in order and nothing runs yet, so writing zeros far behind its start changes nothing.
func (m *machine) warmTranslator() error {
	start, err := findTranslator(m.process.pid)
	if err != nil {
		return fmt.Errorf("find the translation buffer: %w", err)
	}
	const used = 1 << 20 // bytes at the start that QEMU may have written to
	zeros := make([]byte, maxVectors)
	for at := uintptr(used); at < translatedBytes; at += maxVectors * pageSize {
		pages := make([]unix.RemoteIovec, 0, maxVectors)
		for page := at; page < min(at+maxVectors*pageSize, translatedBytes); page += pageSize {
			pages = append(pages, unix.RemoteIovec{Base: start + page, Len: 1})
		}
		local := []unix.Iovec{{Base: &zeros[0], Len: uint64(len(pages))}}
		if _, err := unix.ProcessVMWritev(m.process.pid, local, pages, 0); err != nil {
			return fmt.Errorf("warm the translation buffer: %w", err)
		}
	}
	return nil
}

// findTranslator returns the address of the translation buffer in a QEMU process.
func findTranslator(pid int) (uintptr, error) {
	// 7f4050000000-7f408ffff000 rwxp 00000000 00:00 0
	found, err := vmm.FindMapping(pid, func(m vmm.Mapping) bool {
		return strings.HasPrefix(m.What, "rwxp 00000000 00:00 0") && m.End-m.Start >= translatorSize
	})
	return uintptr(found.Start), err
}
