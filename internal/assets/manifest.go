package assets

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// manifestName is the file that makes a folder an asset. It is written last.
const manifestName = "manifest.json"

// Manifest says what an asset was made from and what it consists of. It holds no time stamp, so
// that the same inputs give the same manifest.
type Manifest struct {
	Asset string `json:"asset"`
	// Inputs are what the asset was made from, by name ("package", "recipe", …). Set-up makes
	// the asset anew when one of them differs.
	Inputs map[string]string `json:"inputs"`
	// Version is the kernel's release; other assets have none.
	Version string `json:"version,omitempty"`
	// Boot starts the builder; other assets have none.
	Boot *guest.BootRequest `json:"boot,omitempty"`
	// Files are all files of the asset, by path relative to its folder.
	Files map[string]FileRecord `json:"files"`

	dir string
}

// FileRecord is the size and content of one file as they were when the asset was made.
type FileRecord struct {
	Size   int64  `json:"size"`   // bytes
	Digest string `json:"digest"` // "sha256:<hex>"
}

// ReadManifest reads the manifest of the asset in dir.
func ReadManifest(dir string) (*Manifest, error) {
	name := filepath.Base(dir)
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("asset %s is missing in %s: %w", name, filepath.Dir(dir), ErrIncomplete)
	}
	if err != nil {
		return nil, fmt.Errorf("asset %s: %w", name, err)
	}
	m := &Manifest{dir: dir}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("asset %s: read its manifest: %w: %w", name, err, ErrIncomplete)
	}
	return m, nil
}

// Seal records every file under dir in m and writes m's manifest there, which completes the asset.
func (m *Manifest) Seal(dir string) error {
	m.dir, m.Files = dir, map[string]FileRecord{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == manifestName {
			return err
		}
		m.Files[rel], err = recordFile(path)
		return err
	})
	if err != nil {
		return fmt.Errorf("seal asset %s: %w", m.Asset, err)
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("seal asset %s: %w", m.Asset, err)
	}
	return os.WriteFile(filepath.Join(dir, manifestName), append(data, '\n'), 0o644)
}

// SameInputs tells whether the asset was made from exactly these inputs.
func (m *Manifest) SameInputs(inputs map[string]string) bool { return maps.Equal(m.Inputs, inputs) }

// File finds one file of the asset by its path relative to the asset's folder.
func (m *Manifest) File(rel string) (File, error) {
	record, ok := m.Files[rel]
	if !ok {
		return File{}, fmt.Errorf("asset %s has no %s: %w", m.Asset, rel, ErrIncomplete)
	}
	return File{Path: filepath.Join(m.dir, rel), Digest: record.Digest, Size: record.Size}, nil
}

// Digest identifies the asset: it changes with any of its files, its inputs or its boot request.
func (m *Manifest) Digest() string {
	data, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings, numbers and maps of them always marshal
	}
	return digestOf(sha256.Sum256(data))
}

// CheckSizes checks that every file is there with its recorded size.
func (m *Manifest) CheckSizes() error {
	for _, rel := range slices.Sorted(maps.Keys(m.Files)) {
		info, err := os.Stat(filepath.Join(m.dir, rel))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("asset %s: %s is missing: %w", m.Asset, rel, ErrIncomplete)
		}
		if err != nil {
			return fmt.Errorf("asset %s: %w", m.Asset, err)
		}
		if want := m.Files[rel].Size; info.Size() != want {
			return fmt.Errorf("asset %s: %s has %d bytes instead of %d: %w", m.Asset, rel, info.Size(), want, ErrIncomplete)
		}
	}
	return nil
}

// CheckDigests checks that every file is there with its recorded content.
func (m *Manifest) CheckDigests() error {
	if err := m.CheckSizes(); err != nil {
		return err
	}
	for _, rel := range slices.Sorted(maps.Keys(m.Files)) {
		now, err := recordFile(filepath.Join(m.dir, rel))
		if err != nil {
			return fmt.Errorf("asset %s: %w", m.Asset, err)
		}
		if now != m.Files[rel] {
			return fmt.Errorf("asset %s: %s was changed: remove %s and %w", m.Asset, rel, m.dir, ErrIncomplete)
		}
	}
	return nil
}

// DigestFile is the digest of a file as manifests record it, "sha256:<hex>".
func DigestFile(path string) (string, error) {
	record, err := recordFile(path)
	return record.Digest, err
}

func recordFile(path string) (FileRecord, error) {
	f, err := os.Open(path)
	if err != nil {
		return FileRecord{}, err
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return FileRecord{}, fmt.Errorf("read %s: %w", path, err)
	}
	return FileRecord{Size: size, Digest: digestOf([sha256.Size]byte(hash.Sum(nil)))}, nil
}

func digestOf(sum [sha256.Size]byte) string { return "sha256:" + hex.EncodeToString(sum[:]) }
