package snapshot

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A checkpoint is one file: what a suspended VM has that its image has not, but for its disk.
//
//	magic "DMCK0001"
//	memory size in bytes (8) | notes size (8) | device state size (8)
//	notes (small, the VM manager's own) | device state
//	sections: first page (8) | pages (4) | kind (4), and for kind 1 the pages themselves
//	an end section (kind 3, all else zero)
//	CRC-32C of everything before (4)
//
// All numbers are little endian. One file, because it takes one fsync and one rename.
const (
	checkpointMagic = "DMCK0001"
	sectionData     = 1
	sectionZero     = 2 // pages of zeros, which the image has something else in
	sectionEnd      = 3
	// maxSection bounds what a reader allocates for one section, in pages (1 MiB).
	maxSection = 256
	maxNotes   = 4 << 10 // bytes
)

// MaxState bounds device state, in bytes; it is 0.15 MB on QEMU 7.2.
const MaxState = 64 << 20

// ErrDamaged means a checkpoint cannot be trusted.
var ErrDamaged = errors.New("the checkpoint is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Run is a run of pages of guest memory.
type Run struct {
	Page  uint64 // index of the first page
	Count uint64 // pages
}

// CheckpointWriter writes a checkpoint to a temporary file beside its final place.
type CheckpointWriter struct {
	path string
	file *os.File
	out  *bufio.Writer
	sum  uint32
	page []byte

	// DirtyBytes counts the pages written so far, zero pages included, in bytes.
	DirtyBytes int64
}

// unfinished is what a checkpoint is called, beside its final place, until it is complete.
func unfinished(path string) string { return path + ".tmp" }

// RemoveUnfinished removes what a crash left of the checkpoint that was to be at path.
func RemoveUnfinished(path string) error {
	if err := os.Remove(unfinished(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an unfinished checkpoint: %w", err)
	}
	return nil
}

// NewCheckpoint begins the checkpoint that will be at path. Notes come back from LoadCheckpoint as they are.
func NewCheckpoint(path string, memorySize uint64, notes, state []byte) (*CheckpointWriter, error) {
	if len(notes) > maxNotes || len(state) > MaxState {
		// LoadCheckpoint would refuse it, when it is too late for the VM to go on.
		return nil, fmt.Errorf("create the checkpoint: notes of %d and device state of %d bytes are too long", len(notes), len(state))
	}
	file, err := os.OpenFile(unfinished(path), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the checkpoint: %w", err)
	}
	w := &CheckpointWriter{path: path, file: file, page: make([]byte, maxSection*blockSize)}
	w.out = bufio.NewWriterSize(file, 1<<20)
	header := append([]byte(checkpointMagic), make([]byte, 24)...)
	binary.LittleEndian.PutUint64(header[8:], memorySize)
	binary.LittleEndian.PutUint64(header[16:], uint64(len(notes)))
	binary.LittleEndian.PutUint64(header[24:], uint64(len(state)))
	if err := w.write(header, notes, state); err != nil {
		w.Abort()
		return nil, err
	}
	return w, nil
}

func (w *CheckpointWriter) write(parts ...[]byte) error {
	for _, part := range parts {
		w.sum = crc32.Update(w.sum, castagnoli, part)
		if _, err := w.out.Write(part); err != nil {
			return fmt.Errorf("write the checkpoint: %w", err)
		}
	}
	return nil
}

// Add copies a run of pages from memory into the checkpoint.
func (w *CheckpointWriter) Add(memory io.ReaderAt, run Run) error {
	for run.Count > 0 {
		count := min(run.Count, maxSection)
		pages := w.page[:count*blockSize]
		if _, err := memory.ReadAt(pages, int64(run.Page*blockSize)); err != nil {
			return fmt.Errorf("read guest memory: %w", err)
		}
		if err := w.addPages(run.Page, pages); err != nil {
			return err
		}
		w.DirtyBytes += int64(len(pages))
		run.Page, run.Count = run.Page+count, run.Count-count
	}
	return nil
}

// addPages writes pages as sections of data and of zeros.
func (w *CheckpointWriter) addPages(first uint64, pages []byte) error {
	for len(pages) > 0 {
		zero := isZero(pages[:blockSize])
		n := blockSize
		for n < len(pages) && isZero(pages[n:n+blockSize]) == zero {
			n += blockSize
		}
		kind, data := uint32(sectionData), pages[:n]
		if zero {
			kind, data = sectionZero, nil
		}
		if err := w.write(section(first, uint32(n/blockSize), kind), data); err != nil {
			return err
		}
		first, pages = first+uint64(n/blockSize), pages[n:]
	}
	return nil
}

func section(page uint64, count, kind uint32) []byte {
	header := make([]byte, 16)
	binary.LittleEndian.PutUint64(header, page)
	binary.LittleEndian.PutUint32(header[8:], count)
	binary.LittleEndian.PutUint32(header[12:], kind)
	return header
}

// Commit makes the checkpoint durable and puts it in its place.
func (w *CheckpointWriter) Commit() error {
	err := w.write(section(0, 0, sectionEnd))
	if err == nil {
		_, err = w.out.Write(binary.LittleEndian.AppendUint32(nil, w.sum))
	}
	if err == nil {
		err = w.out.Flush()
	}
	if err == nil {
		err = w.file.Sync()
	}
	if err == nil {
		err = os.Rename(unfinished(w.path), w.path)
	}
	if err != nil {
		w.Abort()
		return fmt.Errorf("commit the checkpoint: %w", err)
	}
	w.file.Close()
	if err := SyncDir(filepath.Dir(w.path)); err != nil {
		return fmt.Errorf("commit the checkpoint: %w", err)
	}
	return nil
}

// Abort removes what was written.
func (w *CheckpointWriter) Abort() {
	w.file.Close()
	os.Remove(unfinished(w.path))
}

// LoadCheckpoint puts the pages of a checkpoint into memory, writes the device state to state and
// returns the notes. It checks every bound, and the checksum before it returns: on ErrDamaged the
// memory is spoiled and the machine must not run.
func LoadCheckpoint(in io.Reader, memorySize uint64, memory io.WriterAt, state io.Writer) (notes []byte, err error) {
	r := &checkpointReader{in: bufio.NewReaderSize(in, 1<<20), buffer: make([]byte, maxSection*blockSize)}
	header := r.read(32)
	if r.err != nil {
		return nil, r.err
	}
	if string(header[:8]) != checkpointMagic {
		return nil, fmt.Errorf("%w: unknown format", ErrDamaged)
	}
	if binary.LittleEndian.Uint64(header[8:]) != memorySize {
		return nil, fmt.Errorf("%w: made for another memory size", ErrDamaged)
	}
	noteSize, stateSize := binary.LittleEndian.Uint64(header[16:]), binary.LittleEndian.Uint64(header[24:])
	if noteSize > maxNotes || stateSize > MaxState {
		return nil, fmt.Errorf("%w: notes of %d and device state of %d bytes", ErrDamaged, noteSize, stateSize)
	}
	notes = bytes.Clone(r.read(int(noteSize)))
	if err := r.copyState(state, stateSize); err != nil {
		return nil, err
	}
	for {
		more, err := r.section(memorySize, memory)
		if err != nil {
			return nil, err
		}
		if !more {
			return notes, r.checkSum()
		}
	}
}

type checkpointReader struct {
	in     *bufio.Reader
	buffer []byte
	sum    uint32
	err    error
}

// read returns the next n bytes, valid until the next read.
func (r *checkpointReader) read(n int) []byte {
	if r.err != nil {
		return nil
	}
	_, err := io.ReadFull(r.in, r.buffer[:n])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: it ends early", ErrDamaged)
	}
	if err != nil {
		r.err = fmt.Errorf("read the checkpoint: %w", err)
		return nil
	}
	r.sum = crc32.Update(r.sum, castagnoli, r.buffer[:n])
	return r.buffer[:n]
}

func (r *checkpointReader) copyState(state io.Writer, left uint64) error {
	for left > 0 && r.err == nil {
		n := min(left, uint64(len(r.buffer)))
		part := r.read(int(n))
		if r.err != nil {
			break
		}
		if _, err := state.Write(part); err != nil {
			return fmt.Errorf("copy the device state: %w", err)
		}
		left -= n
	}
	return r.err
}

var zeros = make([]byte, maxSection*blockSize)

// section restores one section; it returns false after the end section.
func (r *checkpointReader) section(memorySize uint64, memory io.WriterAt) (bool, error) {
	header := r.read(16)
	if r.err != nil {
		return false, r.err
	}
	page := binary.LittleEndian.Uint64(header)
	count := uint64(binary.LittleEndian.Uint32(header[8:]))
	kind := binary.LittleEndian.Uint32(header[12:])
	if kind == sectionEnd {
		return false, nil
	}
	if count == 0 || count > maxSection || page > memorySize/blockSize || count > memorySize/blockSize-page {
		return false, fmt.Errorf("%w: pages %d+%d of %d", ErrDamaged, page, count, memorySize/blockSize)
	}
	var pages []byte
	switch kind {
	case sectionData:
		if pages = r.read(int(count * blockSize)); r.err != nil {
			return false, r.err
		}
	case sectionZero:
		pages = zeros[:count*blockSize]
	default:
		return false, fmt.Errorf("%w: section of kind %d", ErrDamaged, kind)
	}
	if _, err := memory.WriteAt(pages, int64(page*blockSize)); err != nil {
		return false, fmt.Errorf("write guest memory: %w", err)
	}
	return true, nil
}

func (r *checkpointReader) checkSum() error {
	want := r.sum
	trailer := r.read(4)
	if r.err != nil {
		return r.err
	}
	if binary.LittleEndian.Uint32(trailer) != want {
		return fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	return nil
}
