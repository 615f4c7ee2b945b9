package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// imageMemory is what must stay as it is of the file that holds the image's memory.
type imageMemory struct {
	changed   time.Time
	allocated int64 // bytes
}

func (b *bench) imageFile() string { return filepath.Join(b.snapshot.Dir, "memory") }

func (b *bench) lookAtImage() (imageMemory, error) {
	info, err := os.Stat(b.imageFile())
	if err != nil {
		return imageMemory{}, err
	}
	allocated, err := allocatedBytes(b.imageFile())
	return imageMemory{changed: info.ModTime(), allocated: allocated}, err
}

// guests is what running VMs take of the host's memory.
type guests struct {
	pss      []int64 // bytes of each VMM, memory shared with others in proportion
	private  []int64 // bytes of guest memory that each has made its own
	writable bool    // a VMM maps the image's memory so that it could change it
}

// guestMemory looks at the VMM processes of n running VMs. The daemon also keeps a VMM waiting for
// the next launch; it takes least.
func (b *bench) guestMemory(n int) (guests, error) {
	type vmm struct {
		pss, own int64
		private  bool
	}
	var all []vmm
	for _, pid := range b.daemon.vmms() {
		pss, err := proportionalBytes(pid)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			return guests{}, err
		}
		own, private, err := privateBytesOf(pid, b.imageFile())
		if err != nil {
			return guests{}, err
		}
		all = append(all, vmm{pss, own, private})
	}
	if len(all) < n {
		return guests{}, fmt.Errorf("%d VMs run in %d VMM processes", n, len(all))
	}
	slices.SortFunc(all, func(a, b vmm) int { return cmp.Compare(b.pss, a.pss) })
	var g guests
	for _, v := range all[:n] {
		g.pss, g.private = append(g.pss, v.pss), append(g.private, v.own)
		g.writable = g.writable || !v.private
	}
	return g, nil
}

// suspended is what suspended VMs take of the host's disk.
type suspended struct {
	disk  []int64 // bytes, of the whole folder of each VM
	dirty []int64 // bytes of memory saved of each
}

// putToSleep suspends a VM and looks at what is left of it.
func (b *bench) putToSleep(ctx context.Context, vm microVM) error {
	took, err := b.product.suspend(ctx, vm)
	if err != nil {
		return fmt.Errorf("suspend: %w", err)
	}
	o, err := b.product.lastOperation(ctx, vm, "suspend", took)
	if err != nil {
		return err
	}
	dirty, err := o.dirtyBytes()
	if err != nil {
		return err
	}
	disk, err := allocatedBytes(filepath.Join(b.daemon.dataDir, "microvms", vm.id))
	if err != nil {
		return err
	}
	b.asleep.disk, b.asleep.dirty = append(b.asleep.disk, disk), append(b.asleep.dirty, dirty)
	return nil
}

// excess is by how much the greediest VM goes beyond 1.2 times its dirty pages and a MiB; negative
// if none does.
func (s suspended) excess() int64 {
	worst := int64(-1 << 62)
	for i := range s.disk {
		worst = max(worst, s.disk[i]-(s.dirty[i]*12/10+1<<20))
	}
	return worst
}
