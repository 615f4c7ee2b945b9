package rootfs

import (
	"archive/tar"
	"fmt"
	"strings"
)

const (
	xattrPrefix = "SCHILY.xattr."
	maxXattrs   = 4096 // bytes of one file: ext4 has a block for them
	maxFile     = 1 << 45
)

// keep returns what the file system keeps of a header, without its name, or refuses what ext4
// or Linux could not hold.
func keep(name string, h *tar.Header) (*tar.Header, error) {
	if err := checkNames(name, h); err != nil {
		return nil, err
	}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= 1<<32 || int64(h.Gid) >= 1<<32 {
		return nil, fmt.Errorf("%w: %.100q has an owner that does not exist", ErrInvalid, name)
	}
	kept := &tar.Header{
		Format: tar.FormatPAX, Typeflag: h.Typeflag, Linkname: h.Linkname,
		Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime,
		Devmajor: h.Devmajor, Devminor: h.Devminor,
	}
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeDir, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		kept.Typeflag, kept.Size = tar.TypeReg, h.Size
		if h.Size > maxFile { // sparse files may claim any size
			return nil, fmt.Errorf("%w: %.100q has %d bytes", ErrTooLarge, name, h.Size)
		}
	default:
		return nil, fmt.Errorf("%w: %.100q is of unknown type %q", ErrInvalid, name, h.Typeflag)
	}
	return kept, keepXattrs(kept, name, h.PAXRecords)
}

func checkNames(name string, h *tar.Header) error {
	if len(name) > maxPath || len(h.Linkname) > maxPath || (h.Typeflag == tar.TypeSymlink && h.Linkname == "") {
		return fmt.Errorf("%w: %.100q has a bad name or target", ErrInvalid, name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return fmt.Errorf("%w: %.100q has a name longer than %d bytes", ErrInvalid, name, maxName)
		}
	}
	return nil
}

func keepXattrs(kept *tar.Header, name string, records map[string]string) error {
	size := 0
	for key, value := range records {
		xattr, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok || !keepXattr(xattr) {
			continue
		}
		if kept.PAXRecords == nil {
			kept.PAXRecords = map[string]string{}
		}
		kept.PAXRecords[key] = value
		if size += len(xattr) + len(value); size > maxXattrs || len(xattr) > maxName {
			return fmt.Errorf("%w: %.100q has too long extended attributes", ErrInvalid, name)
		}
	}
	return nil
}

// keepXattr drops attributes that would be wrong on this disk: ACLs (system.*), whose form in a
// tar is not their form on ext4 and which the kernel would refuse to read, and overlayfs's own
// marks, which the guest's overlay would take for its.
func keepXattr(name string) bool {
	if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
		return false
	}
	for _, prefix := range []string{"user.", "trusted.", "security."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
