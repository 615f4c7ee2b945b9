package vmm

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PageSize is the unit of dirty tracking, in bytes.
const PageSize = 4096

// Extent is a run of pages in guest memory.
type Extent struct {
	Page  uint64 // index of the first page
	Count uint64 // pages
}

// Memory reads and writes the guest memory of a VMM process from outside, through /proc, so
// that a checkpoint costs what the guest changed and needs nothing of the VMM.
//
// Guest memory is a private file mapping: a page the guest (or a checkpoint) wrote to has
// become anonymous, and that is what "dirty" means here.
type Memory struct {
	mem     *os.File
	pagemap *os.File
	start   uint64 // address of the mapping in the process
	size    uint64 // bytes
}

// OpenMemory finds the mapping of file in process pid. It needs ptrace access to the process:
// the same user, and where Yama restricts ptrace, the process must be a descendant.
func OpenMemory(pid int, file string, size uint64) (*Memory, error) {
	start, err := findMapping(pid, file, size)
	if err != nil {
		return nil, fmt.Errorf("find guest memory of process %d: %w", pid, err)
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open guest memory: %w", err)
	}
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		mem.Close()
		return nil, fmt.Errorf("open the page map: %w", err)
	}
	return &Memory{mem: mem, pagemap: pagemap, start: start, size: size}, nil
}

// Close gives the file descriptors back.
func (m *Memory) Close() error {
	m.pagemap.Close()
	return m.mem.Close()
}

// Size is the size of guest memory in bytes.
func (m *Memory) Size() uint64 { return m.size }

// Dirty lists, in order, the pages that differ from the file the memory was mapped from.
func (m *Memory) Dirty() ([]Extent, error) {
	extents, err := scanIoctl(m.pagemap, m.start, m.start+m.size)
	if err == errNoScan {
		extents, err = scanEntries(m.pagemap, m.start, m.start+m.size)
	}
	if err != nil {
		return nil, fmt.Errorf("list dirty pages: %w", err)
	}
	for i := range extents {
		extents[i].Page -= m.start / PageSize
	}
	return extents, nil
}

// ReadAt and WriteAt take offsets in guest memory.
func (m *Memory) ReadAt(p []byte, offset int64) (int, error) {
	if err := m.check(p, offset); err != nil {
		return 0, err
	}
	return m.mem.ReadAt(p, int64(m.start)+offset)
}

// WriteAt see ReadAt.
func (m *Memory) WriteAt(p []byte, offset int64) (int, error) {
	if err := m.check(p, offset); err != nil {
		return 0, err
	}
	return m.mem.WriteAt(p, int64(m.start)+offset)
}

func (m *Memory) check(p []byte, offset int64) error {
	if offset < 0 || uint64(offset)+uint64(len(p)) > m.size {
		return fmt.Errorf("guest memory offset %d+%d is outside of %d bytes", offset, len(p), m.size)
	}
	return nil
}

// findMapping returns where file is mapped in pid as one mapping of size bytes.
func findMapping(pid int, file string, size uint64) (uint64, error) {
	found, err := FindMapping(pid, func(m Mapping) bool { return strings.HasSuffix(m.What, " "+file) && m.End-m.Start == size })
	if errors.Is(err, ErrNotMapped) {
		err = fmt.Errorf("%s is not mapped with %d bytes", file, size)
	}
	return found.Start, err
}

// Mapping is part of the address space of a process, proc_pid_maps(5).
type Mapping struct {
	Start, End uint64
	What       string // rights, offset, device, inode and path, as the kernel writes them
}

// ErrNotMapped says that a process has no such mapping.
var ErrNotMapped = errors.New("no such mapping")

// FindMapping returns the first mapping of a process that is wanted, or ErrNotMapped.
func FindMapping(pid int, wanted func(Mapping) bool) (Mapping, error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return Mapping{}, err
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		// 7f0000000000-7f0080000000 rw-p 00000000 fe:00 1234   /path
		span, what, _ := strings.Cut(lines.Text(), " ")
		low, high, _ := strings.Cut(span, "-")
		start, err1 := strconv.ParseUint(low, 16, 64)
		end, err2 := strconv.ParseUint(high, 16, 64)
		if m := (Mapping{start, end, what}); err1 == nil && err2 == nil && wanted(m) {
			return m, nil
		}
	}
	if err := lines.Err(); err != nil {
		return Mapping{}, err
	}
	return Mapping{}, ErrNotMapped
}
