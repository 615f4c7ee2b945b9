package qemu

import (
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestTheTranslationBufferIsFoundAndItsFirstPagesAreMade(t *testing.T) {
	m := &machine{process: &process{pid: os.Getpid()}}
	require.ErrorContains(t, m.warmTranslator(), "no such mapping")

	buffer, err := unix.Mmap(-1, 0, translatorSize, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(buffer)) }()
	buffer[0] = 0xe9 // what QEMU has put there
	require.NoError(t, m.warmTranslator())

	resident := make([]byte, len(buffer)/pageSize)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)), uintptr(unsafe.Pointer(&resident[0])))
	require.Zero(t, errno)
	var made int
	for _, page := range resident {
		made += int(page & 1)
	}
	require.Equal(t, 1+(translatedBytes-1<<20)/pageSize, made)
	require.Equal(t, byte(0xe9), buffer[0])
	require.Equal(t, make([]byte, translatedBytes-1), buffer[1:translatedBytes])
}
