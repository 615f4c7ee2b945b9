package vmm

import (
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

var errNoScan = errors.New("PAGEMAP_SCAN is not available")

// From linux/fs.h; the ioctl exists since Linux 6.7.
const (
	pagemapScan   = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)
	pageIsFile    = 1 << 2
	pageIsPresent = 1 << 3
	pageIsSwapped = 1 << 4
	scanArgSize   = 96
	scanBatch     = 4096 // regions per call
)

type pageRegion struct{ start, end, categories uint64 }

type scanArg struct {
	size             uint64
	flags            uint64
	start            uint64
	end              uint64
	walkEnd          uint64
	vec              uint64
	vecLen           uint64
	maxPages         uint64
	categoryInverted uint64
	categoryMask     uint64
	categoryAnyOf    uint64
	returnMask       uint64
}

// scanIoctl asks the kernel for the anonymous pages between two addresses, in page numbers.
func scanIoctl(pagemap *os.File, start, end uint64) ([]Extent, error) {
	regions := make([]pageRegion, scanBatch)
	var extents []Extent
	for start < end {
		arg := scanArg{
			size: scanArgSize, start: start, end: end,
			vec: uint64(uintptr(unsafe.Pointer(&regions[0]))), vecLen: uint64(len(regions)),
			// anonymous = (present or swapped) and not file
			categoryInverted: pageIsFile,
			categoryMask:     pageIsFile,
			categoryAnyOf:    pageIsPresent | pageIsSwapped,
			returnMask:       pageIsPresent | pageIsSwapped,
		}
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, pagemap.Fd(), pagemapScan, uintptr(unsafe.Pointer(&arg)))
		switch {
		case errno == unix.ENOTTY || errno == unix.EINVAL:
			return nil, errNoScan
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return nil, errno
		}
		for _, r := range regions[:n] {
			extents = appendExtent(extents, r.start/PageSize, (r.end-r.start)/PageSize)
		}
		start = arg.walkEnd
	}
	return extents, nil
}

// scanEntries reads one 64-bit entry per page: bit 63 present, 62 swapped, 61 file or shared
// (Documentation/admin-guide/mm/pagemap.rst).
func scanEntries(pagemap *os.File, start, end uint64) ([]Extent, error) {
	const present, swapped, file = 1 << 63, 1 << 62, 1 << 61
	buffer := make([]byte, 64<<10)
	var extents []Extent
	for page := start / PageSize; page < end/PageSize; {
		want := min(uint64(len(buffer)), (end/PageSize-page)*8)
		n, err := pagemap.ReadAt(buffer[:want], int64(page*8))
		if err != nil {
			return nil, err
		}
		for ; n >= 8; n -= 8 {
			entry := binary.NativeEndian.Uint64(buffer[want-uint64(n):])
			if entry&swapped != 0 || entry&present != 0 && entry&file == 0 {
				extents = appendExtent(extents, page, 1)
			}
			page++
		}
	}
	return extents, nil
}

func appendExtent(extents []Extent, page, count uint64) []Extent {
	if last := len(extents) - 1; last >= 0 && extents[last].Page+extents[last].Count == page {
		extents[last].Count += count
		return extents
	}
	return append(extents, Extent{Page: page, Count: count})
}
