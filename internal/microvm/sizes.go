package microvm

// Size is what a guest of one memory class sees: four times the class's memory, and its disk
// (spec/behaviour.md 4.3, "peak").
type Size struct {
	MemoryMiB int
	CPUs      int
	DiskBytes int64
}

var sizes = map[int]Size{
	512:  {MemoryMiB: 2 << 10, CPUs: 1, DiskBytes: 8 << 30},
	1024: {MemoryMiB: 4 << 10, CPUs: 2, DiskBytes: 8 << 30},
	2048: {MemoryMiB: 8 << 10, CPUs: 4, DiskBytes: 8 << 30},
	4096: {MemoryMiB: 16 << 10, CPUs: 8, DiskBytes: 16 << 30},
	8192: {MemoryMiB: 32 << 10, CPUs: 16, DiskBytes: 32 << 30},
}

// SizeOf is the size of a memory class, given as minimumMemoryInMiB.
func SizeOf(minimumMiB int) (Size, bool) {
	size, ok := sizes[minimumMiB]
	return size, ok
}
