package kvm

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// The sizes are part of the ioctl numbers: the kernel refuses or overruns anything else.
func TestStructuresHaveTheKernelsSizes(t *testing.T) {
	size := func(request int) int { return request >> 16 & 0x3fff }
	require.Equal(t, size(setUserMemoryRegion), int(unsafe.Sizeof(memoryRegion{})))
	require.Equal(t, size(getRegisters), int(unsafe.Sizeof(registers{})))
	require.Equal(t, size(setRegisters), int(unsafe.Sizeof(registers{})))
	require.Equal(t, size(getSpecialRegisters), int(unsafe.Sizeof(specialRegisters{})))
	require.Equal(t, size(setSpecialRegisters), int(unsafe.Sizeof(specialRegisters{})))
}
