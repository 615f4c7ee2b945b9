package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// grace is how long KVM may take to leave the guest when told to.
const grace = time.Second

// errStuck means that KVM did not come back; its thread is lost until the process ends.
var errStuck = errors.New("KVM does not leave the guest when interrupted")

// Probe runs a counted loop of ring-0 code in a guest without devices, for at most about a second.
func Probe(ctx context.Context) (Speed, error) {
	type result struct {
		speed Speed
		err   error
	}
	m, err := newMachine()
	if err != nil {
		return Speed{}, fmt.Errorf("set up a KVM guest: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		defer m.close()
		speed, err := m.count()
		done <- result{speed, err}
	}()
	select {
	case r := <-done:
		return r.speed, r.err
	case <-ctx.Done():
	}
	for deadline := time.After(grace); ; {
		m.interrupt()
		select {
		case r := <-done:
			return r.speed, r.err
		case <-deadline:
			return Speed{}, errStuck
		case <-time.After(10 * time.Millisecond): // a signal between two runs would be lost
		}
	}
}

// machine is a VM of one processor in long mode, with its own page tables and nothing else.
type machine struct {
	vm, vcpu int
	memory   []byte
	run      []byte // struct kvm_run
	thread   atomic.Int64
	stopped  atomic.Bool
}

func newMachine() (_ *machine, err error) {
	m := &machine{vm: -1, vcpu: -1}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	device, err := unix.Open(Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: Device, Err: err}
	}
	defer unix.Close(device)
	version, err := ioctl(device, getAPIVersion, 0)
	if err != nil {
		return nil, fmt.Errorf("ask KVM for its version: %w", err)
	}
	if version != apiVersion {
		return nil, fmt.Errorf("KVM's interface has version %d, expected %d", version, apiVersion)
	}
	if m.vm, err = ioctl(device, createVM, 0); err != nil {
		return nil, fmt.Errorf("create a VM: %w", err)
	}
	if err := m.addMemory(); err != nil {
		return nil, err
	}
	if m.vcpu, err = ioctl(m.vm, createVCPU, 0); err != nil {
		return nil, fmt.Errorf("create a processor: %w", err)
	}
	size, err := ioctl(device, getVCPUMmapSize, 0)
	if err != nil {
		return nil, fmt.Errorf("ask for the size of the processor's state: %w", err)
	}
	if size < runStateSize {
		return nil, fmt.Errorf("the processor's state has %d bytes, expected at least %d", size, runStateSize)
	}
	if m.run, err = unix.Mmap(m.vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map the processor's state: %w", err)
	}
	return m, m.enterLongMode()
}

func (m *machine) close() {
	if m.run != nil {
		_ = unix.Munmap(m.run)
	}
	for _, fd := range []int{m.vcpu, m.vm} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if m.memory != nil { // after the VM, which uses it
		_ = unix.Munmap(m.memory)
	}
}

// addMemory gives the VM its memory: page tables that map the first 2 MiB onto themselves, and the loop.
func (m *machine) addMemory() (err error) {
	m.memory, err = unix.Mmap(-1, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("allocate guest memory: %w", err)
	}
	const present, writable, large = 1 << 0, 1 << 1, 1 << 7
	m.putUint64(pml4, pdpt|present|writable)
	m.putUint64(pdpt, pageDirectory|present|writable)
	m.putUint64(pageDirectory, present|writable|large)
	copy(m.memory[code:], []byte{
		0x48, 0xff, 0xc9, // loop: dec rcx
		0x75, 0xfb, //             jnz loop
		0xf4, //                   hlt
	})
	region := memoryRegion{size: memorySize, address: uint64(uintptr(unsafe.Pointer(&m.memory[0])))}
	if _, err := ioctl(m.vm, setUserMemoryRegion, uintptr(unsafe.Pointer(&region))); err != nil {
		return fmt.Errorf("give the VM memory: %w", err)
	}
	return nil
}

func (m *machine) putUint64(at int, value uint64) {
	*(*uint64)(unsafe.Pointer(&m.memory[at])) = value
}

// enterLongMode puts the processor at the loop, in 64-bit mode at ring 0 (Intel SDM volume 3, 10.8.5).
func (m *machine) enterLongMode() error {
	var s specialRegisters
	if _, err := ioctl(m.vcpu, getSpecialRegisters, uintptr(unsafe.Pointer(&s))); err != nil {
		return fmt.Errorf("read control registers: %w", err)
	}
	s.cr0 = 1<<31 | 1<<4 | 1<<0 // paging, extension type, protected mode
	s.cr3 = pml4
	s.cr4 = 1 << 5        // physical address extension
	s.efer = 1<<10 | 1<<8 // long mode active and enabled
	flat := segment{limit: 0xffffffff, present: 1, system: 1, granularity: 1}
	s.cs, s.ds = flat, flat
	s.cs.selector, s.cs.kind, s.cs.long = 1<<3, 11, 1 // code: execute, read, accessed
	s.ds.selector, s.ds.kind, s.ds.size32 = 2<<3, 3, 1
	s.es, s.fs, s.gs, s.ss = s.ds, s.ds, s.ds, s.ds
	if _, err := ioctl(m.vcpu, setSpecialRegisters, uintptr(unsafe.Pointer(&s))); err != nil {
		return fmt.Errorf("enter long mode: %w", err)
	}
	r := registers{rip: code, rcx: loopInstructions / perIteration, rflags: 1 << 1} // bit 1 is always set
	if _, err := ioctl(m.vcpu, setRegisters, uintptr(unsafe.Pointer(&r))); err != nil {
		return fmt.Errorf("set registers: %w", err)
	}
	return nil
}

// count runs the loop to its end or until interrupt, and says how far it came.
func (m *machine) count() (Speed, error) {
	runtime.LockOSThread() // interrupt sends its signal to this thread
	defer runtime.UnlockOSThread()
	m.thread.Store(int64(unix.Gettid()))
	began := time.Now()
	var exit exitReason
	for !m.stopped.Load() {
		_, err := ioctl(m.vcpu, runVCPU, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue // our signal, or one of the Go runtime's
		}
		if err != nil {
			return Speed{}, fmt.Errorf("run a KVM guest: %w", err)
		}
		exit = *(*exitReason)(unsafe.Pointer(&m.run[exitReasonAt]))
		if exit != exitInterrupted {
			break
		}
	}
	elapsed := time.Since(began)
	if !m.stopped.Load() && exit != exitHalted {
		return Speed{}, fmt.Errorf("the KVM guest stopped for reason %d, expected %d (halted)", exit, exitHalted)
	}
	var r registers
	if _, err := ioctl(m.vcpu, getRegisters, uintptr(unsafe.Pointer(&r))); err != nil {
		return Speed{}, fmt.Errorf("read the KVM guest's counter: %w", err)
	}
	left := r.rcx * perIteration
	if left > loopInstructions {
		return Speed{}, fmt.Errorf("the KVM guest's counter is %d, which its loop cannot reach", r.rcx)
	}
	return Speed{Instructions: loopInstructions - left, Elapsed: elapsed}, nil
}

// interrupt makes the processor leave the guest. The Go runtime ignores a SIGURG it did not ask for.
func (m *machine) interrupt() {
	m.stopped.Store(true)
	if thread := m.thread.Load(); thread != 0 {
		_ = unix.Tgkill(os.Getpid(), int(thread), unix.SIGURG)
	}
}

func ioctl(fd int, request, argument uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, argument)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
