package floor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const pageSize = 4096

// extents are runs of pages of guest memory, in order.
type extents []struct{ first, count int64 }

func (e extents) bytes() (total int64) {
	for _, run := range e {
		total += run.count * pageSize
	}
	return total
}

// memory is a QEMU process's guest memory, reached from outside.
type memory struct {
	*os.File // the process's whole memory
	pid      int
	start    int64 // address of guest memory
	size     int64 // bytes
}

// memory finds guest memory in the process.
func (q *qemu) memory(s Snapshot) (*memory, error) {
	pid := q.cmd.Process.Pid
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), " "+s.file("memory")) {
			continue
		}
		address, _, _ := strings.Cut(line, "-")
		start, err := strconv.ParseInt(address, 16, 64)
		if err != nil {
			return nil, err
		}
		file, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		return &memory{File: file, pid: pid, start: start, size: int64(s.MemoryMiB) << 20}, nil
	}
	return nil, errors.New("guest memory is not mapped")
}

// dirty lists the pages that are anonymous: changed since the snapshot
// (Documentation/admin-guide/mm/pagemap.rst).
func (m *memory) dirty() (pages extents, err error) {
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", m.pid))
	if err != nil {
		return nil, err
	}
	defer pagemap.Close()
	entries := make([]byte, m.size/pageSize*8)
	if _, err := pagemap.ReadAt(entries, m.start/pageSize*8); err != nil {
		return nil, err
	}
	const present, swapped, file = 1 << 63, 1 << 62, 1 << 61
	for page := range m.size / pageSize {
		entry := binary.NativeEndian.Uint64(entries[page*8:])
		if entry&swapped == 0 && (entry&present == 0 || entry&file != 0) {
			continue
		}
		if last := len(pages) - 1; last >= 0 && pages[last].first+pages[last].count == page {
			pages[last].count++
		} else {
			pages = append(pages, struct{ first, count int64 }{page, 1})
		}
	}
	return pages, nil
}

// read copies pages to content, one after the other.
func (m *memory) read(pages extents, content []byte) error {
	for _, run := range pages {
		n := run.count * pageSize
		if _, err := m.ReadAt(content[:n], m.start+run.first*pageSize); err != nil {
			return fmt.Errorf("read guest memory: %w", err)
		}
		content = content[n:]
	}
	return nil
}

// write is the inverse of read.
func (m *memory) write(pages extents, content []byte) error {
	for _, run := range pages {
		n := run.count * pageSize
		if _, err := m.WriteAt(content[:n], m.start+run.first*pageSize); err != nil {
			return fmt.Errorf("write guest memory: %w", err)
		}
		content = content[n:]
	}
	return nil
}
