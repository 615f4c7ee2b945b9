// Package snapshot keeps image snapshots and checkpoints on disk: their formats, their integrity, and the cheap copies launches are made of.
package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Files of an image snapshot. The folder is self-contained and never changes once it has its manifest.
const (
	RootFile     = "rootfs.img"   // read-only root file system, from the container image
	DiskFile     = "disk.img"     // writable disk at the time of the snapshot, sparse
	MemoryFile   = "memory"       // guest memory at the time of the snapshot, sparse
	StateFile    = "device.state" // device state without memory
	manifestFile = "manifest.json"
)

const formatVersion = 1

// ErrMismatch means a snapshot was made by another VMM, kernel or agent than the present ones.
var ErrMismatch = errors.New("the snapshot does not fit this installation")

// Machine is what a snapshot can only be restored on.
type Machine struct {
	VMM       string `json:"vmm"` // vmm.Driver.Identity
	Kernel    string `json:"kernel"`
	Initramfs string `json:"initramfs"` // holds the agent
	CPUs      int    `json:"cpus"`
	MemoryMiB int    `json:"memoryMiB"`
	DiskBytes int64  `json:"diskBytes"`
}

// Manifest describes an image snapshot. It is written last: a folder without it is not a snapshot.
type Manifest struct {
	Format    int       `json:"format"`
	CreatedAt time.Time `json:"createdAt"`
	Machine   Machine   `json:"machine"`
	Secret    []byte    `json:"secret"` // of the agent in the snapshot; the file is 0600
	// LoggedBytes is how much of what the app had written is in the log of the build. The logs of
	// microVMs go on from there.
	LoggedBytes int64             `json:"loggedBytes"`
	Digests     map[string]string `json:"digests"` // file name → sha256 of its data extents and their places
	// Sizes in bytes: what the file takes on disk, holes left out.
	MemoryBytes int64 `json:"memoryBytes"`
	DiskBytes   int64 `json:"diskBytes"`
	RootBytes   int64 `json:"rootBytes"`
}

// Image is a complete image snapshot.
type Image struct {
	Dir string
	Manifest
}

// Path is where a file of the snapshot is.
func (i *Image) Path(file string) string { return filepath.Join(i.Dir, file) }

// Seal completes an image snapshot: it frees the zero pages of the memory and disk files, makes
// every file durable, and writes the manifest.
func Seal(dir string, manifest Manifest) (*Image, error) {
	manifest.Format = formatVersion
	manifest.Digests = map[string]string{}
	sizes := map[string]*int64{MemoryFile: &manifest.MemoryBytes, DiskFile: &manifest.DiskBytes, RootFile: &manifest.RootBytes, StateFile: nil}
	for name, size := range sizes {
		digest, allocated, err := sealFile(filepath.Join(dir, name), name == MemoryFile || name == DiskFile)
		if err != nil {
			return nil, fmt.Errorf("seal %s: %w", name, err)
		}
		manifest.Digests[name] = digest
		if size != nil {
			*size = allocated
		}
	}
	text, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := WriteFile(filepath.Join(dir, manifestFile), text); err != nil {
		return nil, fmt.Errorf("write the manifest: %w", err)
	}
	return &Image{Dir: dir, Manifest: manifest}, nil
}

func sealFile(path string, punch bool) (digest string, allocated int64, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	if punch {
		if err := punchZeros(file); err != nil {
			return "", 0, err
		}
	}
	if err := file.Sync(); err != nil {
		return "", 0, err
	}
	if digest, err = digestData(file); err != nil {
		return "", 0, err
	}
	allocated, err = Allocated(path)
	return digest, allocated, err
}

// Open reads the manifest of the image snapshot in dir and checks that it can be restored on machine
// (but for its sizes, which are the image's own).
func Open(dir string, present Machine) (*Image, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, fmt.Errorf("open the image snapshot: %w", err)
	}
	image := &Image{Dir: dir}
	if err := json.Unmarshal(text, &image.Manifest); err != nil {
		return nil, fmt.Errorf("open the image snapshot: parse the manifest: %w", err)
	}
	if err := image.fits(present); err != nil {
		return nil, fmt.Errorf("open the image snapshot in %s: %w", dir, err)
	}
	return image, nil
}

func (i *Image) fits(present Machine) error {
	if i.Format != formatVersion {
		return fmt.Errorf("%w: format %d, this is format %d: build the image again", ErrMismatch, i.Format, formatVersion)
	}
	for _, part := range []struct{ name, then, now string }{
		{"VMM", i.Machine.VMM, present.VMM},
		{"kernel", i.Machine.Kernel, present.Kernel},
		{"guest agent", i.Machine.Initramfs, present.Initramfs},
	} {
		if part.then != part.now {
			return fmt.Errorf("%w: made with %s %q, present is %q: build the image again", ErrMismatch, part.name, part.then, part.now)
		}
	}
	return nil
}

// Verify reads every file and compares it with the manifest. It takes seconds; launches do not call it.
func (i *Image) Verify() error {
	for name, want := range i.Digests {
		file, err := os.Open(i.Path(name))
		if err != nil {
			return fmt.Errorf("verify the image snapshot: %w", err)
		}
		got, err := digestData(file)
		file.Close()
		if err != nil {
			return fmt.Errorf("verify %s: %w", name, err)
		}
		if got != want {
			return fmt.Errorf("verify %s: the file is damaged: build the image again", i.Path(name))
		}
	}
	return nil
}

// digestData hashes the data of a sparse file with the place of each piece; holes cost nothing.
// Zeros count as a hole, so that the digest does not depend on how the file is laid out.
func digestData(file *os.File) (string, error) {
	hash := sha256.New()
	err := eachData(file, func(offset int64, block []byte) error {
		if isZero(block) {
			return nil
		}
		fmt.Fprintf(hash, "%d:", offset)
		hash.Write(block)
		return nil
	})
	if err != nil && err != io.EOF {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
