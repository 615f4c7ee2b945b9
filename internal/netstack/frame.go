package netstack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// QEMU's stream network writes each Ethernet frame behind its length (QEMU net/stream.c).
const (
	prefixSize = 4 // bytes, big endian
	minFrame   = header.EthernetMinimumSize
	vlanTag    = 4 // a guest may tag frames, which lengthens them; such frames are read and dropped
	maxFrame   = header.EthernetMinimumSize + guest.MTU + vlanTag

	// readBuffer holds many small frames; of a large one the rest is read to where it belongs.
	readBuffer = 16 << 10 // bytes
)

var errFrameLength = errors.New("frame length out of bounds")

// frameReader takes the frame stream of a hostile guest apart.
type frameReader struct {
	r *bufio.Reader
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, readBuffer)}
}

// next returns one frame, which the caller releases. A length outside [minFrame, maxFrame] is an
// error, after which the stream cannot be read on. The end of the stream between two frames is io.EOF.
func (f *frameReader) next() (*buffer.View, error) {
	prefix, err := f.r.Peek(prefixSize)
	if err != nil {
		if len(prefix) > 0 && errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, err
	}
	size := binary.BigEndian.Uint32(prefix)
	if size < minFrame || size > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes, expected %d to %d", errFrameLength, size, minFrame, maxFrame)
	}
	if _, err := f.r.Discard(prefixSize); err != nil {
		return nil, err
	}
	frame := buffer.NewViewSize(int(size))
	if _, err := io.ReadFull(f.r, frame.AsSlice()); err != nil {
		frame.Release()
		if errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return frame, nil
}

// appendFrame appends a frame that is given in pieces, with its length before it.
func appendFrame(dst []byte, pieces ...[]byte) []byte {
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	for _, p := range pieces {
		dst = append(dst, p...)
	}
	return dst
}
