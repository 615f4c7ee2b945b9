package kvm

// Requests and structures of linux/kvm.h and asm/kvm.h for x86-64.
const (
	getAPIVersion       = 0xae00
	createVM            = 0xae01
	getVCPUMmapSize     = 0xae04
	createVCPU          = 0xae41
	setUserMemoryRegion = 0x4020ae46
	runVCPU             = 0xae80
	getRegisters        = 0x8090ae81
	setRegisters        = 0x4090ae82
	getSpecialRegisters = 0x8138ae83
	setSpecialRegisters = 0x4138ae84

	apiVersion   = 12
	exitReasonAt = 8    // offset in struct kvm_run
	runStateSize = 2352 // bytes, struct kvm_run at least
)

// exitReason says why the processor left the guest.
type exitReason uint32

const (
	exitHalted      exitReason = 5
	exitInterrupted exitReason = 10
)

// Guest-physical addresses of the probe.
const (
	pml4          = 0x1000
	pdpt          = 0x2000
	pageDirectory = 0x3000
	code          = 0x4000
	memorySize    = 0x5000
)

type memoryRegion struct {
	slot, flags   uint32
	guestPhysical uint64
	size          uint64
	address       uint64
}

type registers struct {
	rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp uint64
	r8, r9, r10, r11, r12, r13, r14, r15   uint64
	rip, rflags                            uint64
}

type segment struct {
	base          uint64
	limit         uint32
	selector      uint16
	kind          uint8
	present       uint8
	privilege     uint8
	size32        uint8
	system        uint8
	long          uint8
	granularity   uint8
	available     uint8
	unusable, pad uint8
}

type descriptorTable struct {
	base  uint64
	limit uint16
	pad   [3]uint16
}

type specialRegisters struct {
	cs, ds, es, fs, gs, ss, tr, ldt segment
	gdt, idt                        descriptorTable
	cr0, cr2, cr3, cr4, cr8         uint64
	efer, apicBase                  uint64
	interrupts                      [4]uint64
}
