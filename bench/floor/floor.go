package floor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const pageSize = 4096

// Sample is one round of the floor.
type Sample struct {
	Launch  time.Duration // copy the disk, start QEMU, load, run, first 200
	Suspend time.Duration // stop, device state, dirty pages written and synced
	Wake    time.Duration // start QEMU, pages put back, load, run, first 200
	Dirty   int64         // bytes
}

// Measure runs one round in a scratch folder: launch, suspend, wake.
func Measure(s Snapshot, scratch string) (Sample, error) {
	var sample Sample
	dir, err := os.MkdirTemp(scratch, "floor-")
	if err != nil {
		return sample, err
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "disk.img")

	began := time.Now()
	if out, err := exec.Command("cp", "--sparse=always", s.file("disk.img"), disk).CombinedOutput(); err != nil {
		return sample, fmt.Errorf("copy the disk: %w: %s", err, out)
	}
	q, err := start(s, dir, disk)
	if err != nil {
		return sample, err
	}
	defer func() { q.kill() }()
	if err := errors.Join(q.load(s.file("device.state")), q.request()); err != nil {
		return sample, fmt.Errorf("bare launch: %w", err)
	}
	sample.Launch = time.Since(began)

	saved := filepath.Join(dir, "vm")
	pages, took, err := q.suspend(s, saved)
	if err != nil {
		return sample, fmt.Errorf("bare suspend: %w", err)
	}
	sample.Suspend = took
	sample.Dirty = int64(len(pages)) * pageSize
	q.kill()
	if err := os.Remove(filepath.Join(dir, "qmp.sock")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return sample, err
	}

	began = time.Now()
	if q, err = start(s, dir, disk); err != nil {
		return sample, err
	}
	if err := q.restore(s, saved, pages); err != nil {
		return sample, fmt.Errorf("bare wake: %w", err)
	}
	sample.Wake = time.Since(began)
	return sample, nil
}

// suspend stops the guest and saves its device state and dirty pages, synced. Finding out which
// pages are dirty is not counted: a floor must not be made higher by a slow way of doing that.
func (q *qemu) suspend(s Snapshot, saved string) (pages []int64, took time.Duration, err error) {
	began := time.Now()
	save := map[string]any{"filename": saved + ".state", "live": false}
	if err := errors.Join(q.command("stop", nil, nil), q.command("xen-save-devices-state", save, nil)); err != nil {
		return nil, 0, err
	}
	took = time.Since(began)
	start, pages, err := q.dirty(s)
	if err != nil {
		return nil, 0, err
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", q.cmd.Process.Pid))
	if err != nil {
		return nil, 0, err
	}
	defer memory.Close()
	began = time.Now()
	content := make([]byte, len(pages)*pageSize)
	for i, page := range pages {
		if _, err := memory.ReadAt(content[i*pageSize:(i+1)*pageSize], start+page*pageSize); err != nil {
			return nil, 0, err
		}
	}
	err = writeSynced(saved+".pages", content)
	return pages, took + time.Since(began), err
}

func writeSynced(path string, content []byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(content); err != nil {
		return err
	}
	return file.Sync()
}

// restore puts pages and device state back, lets the guest run and asks it.
func (q *qemu) restore(s Snapshot, saved string, pages []int64) error {
	content, err := os.ReadFile(saved + ".pages")
	if err != nil {
		return err
	}
	start, err := q.mapping(s)
	if err != nil {
		return err
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", q.cmd.Process.Pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	for i, page := range pages {
		if _, err := memory.WriteAt(content[i*pageSize:(i+1)*pageSize], start+page*pageSize); err != nil {
			return err
		}
	}
	return errors.Join(q.load(saved+".state"), q.request())
}

// mapping finds guest memory in the process.
func (q *qemu) mapping(s Snapshot) (int64, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", q.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), " "+s.file("memory")) {
			address, _, _ := strings.Cut(line, "-")
			return strconv.ParseInt(address, 16, 64)
		}
	}
	return 0, errors.New("guest memory is not mapped")
}

// dirty lists the pages of guest memory that are anonymous: changed since the snapshot.
func (q *qemu) dirty(s Snapshot) (start int64, pages []int64, err error) {
	if start, err = q.mapping(s); err != nil {
		return 0, nil, err
	}
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", q.cmd.Process.Pid))
	if err != nil {
		return 0, nil, err
	}
	defer pagemap.Close()
	count := int64(s.MemoryMiB) << 20 / pageSize
	entries := make([]byte, count*8)
	if _, err := pagemap.ReadAt(entries, start/pageSize*8); err != nil {
		return 0, nil, err
	}
	const present, swapped, file = 1 << 63, 1 << 62, 1 << 61
	for page := range count {
		entry := binary.NativeEndian.Uint64(entries[page*8:])
		if entry&swapped != 0 || entry&present != 0 && entry&file == 0 {
			pages = append(pages, page)
		}
	}
	return start, pages, nil
}
