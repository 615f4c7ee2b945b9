// Package floor measures, with none of the product's code, what bare QEMU needs to restore a snapshot and answer a request: the least a launch or wake can take.
package floor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Snapshot is where an image snapshot's files are, and the machine they fit.
type Snapshot struct {
	Dir       string // holds memory, device.state, disk.img and rootfs.img
	MemoryMiB int
	CPUs      int
	Accel     string // tcg or kvm
	CPU       string // QEMU's -cpu
}

func (s Snapshot) file(name string) string { return filepath.Join(s.Dir, name) }

// Sample is one round of the floor.
type Sample struct {
	Launch  time.Duration // copy the disk, start QEMU, load, run, first 200
	Suspend time.Duration // stop, device state, dirty pages written and synced
	Wake    time.Duration // start QEMU, pages put back, load, run, first 200
	Dirty   int64         // bytes

	// The parts of Launch and Wake that whoever has QEMU started ahead of time does not need.
	LaunchStart, WakeStart time.Duration
}

// Measure runs one round in a scratch folder: launch, suspend after a lifetime, wake.
func Measure(ctx context.Context, s Snapshot, scratch string, lifetime time.Duration) (sample Sample, err error) {
	dir, err := os.MkdirTemp(scratch, "floor-")
	if err != nil {
		return sample, err
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "disk.img")

	began := time.Now()
	if err := copySparse(disk, s.file("disk.img")); err != nil {
		return sample, fmt.Errorf("copy the disk: %w", err)
	}
	starting := time.Now()
	q, err := start(ctx, s, dir, disk)
	if err != nil {
		return sample, err
	}
	defer func() { q.kill() }()
	sample.LaunchStart = time.Since(starting)
	if err := errors.Join(q.load(s.file("device.state")), q.request()); err != nil {
		return sample, fmt.Errorf("bare launch: %w", err)
	}
	sample.Launch = time.Since(began)

	time.Sleep(lifetime)
	saved := filepath.Join(dir, "vm")
	pages, took, err := q.suspend(s, saved)
	if err != nil {
		return sample, fmt.Errorf("bare suspend: %w", err)
	}
	sample.Suspend, sample.Dirty = took, pages.bytes()
	q.kill()

	began = time.Now()
	if q, err = start(ctx, s, dir, disk); err != nil {
		return sample, err
	}
	sample.WakeStart = time.Since(began)
	if err := q.restore(s, saved, pages); err != nil {
		return sample, fmt.Errorf("bare wake: %w", err)
	}
	sample.Wake = time.Since(began)
	return sample, nil
}

// suspend stops the guest and saves its device state and dirty pages, synced. Finding out which
// pages are dirty is not counted: a floor must not be made higher by a slow way of doing that.
func (q *qemu) suspend(s Snapshot, saved string) (pages extents, took time.Duration, err error) {
	began := time.Now()
	save := map[string]any{"filename": saved + ".state", "live": false}
	if err := errors.Join(q.command("stop", nil), q.command("xen-save-devices-state", save)); err != nil {
		return nil, 0, err
	}
	took = time.Since(began)
	memory, err := q.memory(s)
	if err != nil {
		return nil, 0, err
	}
	defer memory.Close()
	if pages, err = memory.dirty(); err != nil {
		return nil, 0, err
	}
	content := make([]byte, pages.bytes())
	began = time.Now()
	if err := memory.read(pages, content); err != nil {
		return nil, 0, err
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
func (q *qemu) restore(s Snapshot, saved string, pages extents) error {
	content, err := os.ReadFile(saved + ".pages")
	if err != nil {
		return err
	}
	memory, err := q.memory(s)
	if err != nil {
		return err
	}
	defer memory.Close()
	if err := memory.write(pages, content); err != nil {
		return err
	}
	return errors.Join(q.load(saved+".state"), q.request())
}
