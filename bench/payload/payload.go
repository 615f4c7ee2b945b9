// Package payload makes and checks the bytes that the data plane's benchmarks move, in the benchmark and in the guest alike.
package payload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

var table = crc32.MakeTable(crc32.Castagnoli) // what CPUs have an instruction for

// Sum is the checksum of all payloads, CRC-32C.
func Sum(b []byte) uint32 { return crc32.Checksum(b, table) }

// Extend goes on with a sum.
func Extend(sum uint32, b []byte) uint32 { return crc32.Update(sum, table, b) }

// Fill writes the bytes that belong to a seed: splitmix64, so that bytes of another seed, or of another
// place, are other bytes.
func Fill(b []byte, seed uint64) {
	for len(b) > 0 {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
		if len(b) < 8 {
			var last [8]byte
			binary.LittleEndian.PutUint64(last[:], z)
			copy(b, last[:])
			return
		}
		binary.LittleEndian.PutUint64(b, z)
		b = b[8:]
	}
}

// BlockSize is the bytes of what large bodies repeat, and what is best written or read at once.
const BlockSize = 256 << 10

// Block is what large bodies repeat.
func Block() []byte {
	block := make([]byte, BlockSize)
	Fill(block, 0)
	return block
}

// HeaderSize is the bytes of a message before its body: stream, number, sum.
const HeaderSize = 8 + 8 + 4

// Message is one message of a stream. A reply has the stream and number of what it replies to, and
// other bytes.
type Message struct {
	Stream uint64
	Number uint64 // counts from 0 in each stream
	Reply  bool
}

// replyBit tells replies apart, on the wire.
const replyBit = 1 << 63

// Encode makes the message, HeaderSize + size bytes.
func (m Message) Encode(size int) []byte {
	b := make([]byte, HeaderSize+size)
	binary.BigEndian.PutUint64(b, m.stream())
	binary.BigEndian.PutUint64(b[8:], m.Number)
	Fill(b[HeaderSize:], m.stream()*0xd1342543de82ef95+m.Number)
	binary.BigEndian.PutUint32(b[16:], messageSum(b))
	return b
}

func (m Message) stream() uint64 {
	if m.Reply {
		return m.Stream | replyBit
	}
	return m.Stream
}

// messageSum covers all of a message but its sum.
func messageSum(b []byte) uint32 { return Extend(Sum(b[:16]), b[HeaderSize:]) }

// ErrDamaged says that bytes are not what was sent.
var ErrDamaged = errors.New("damaged message")

// Decode is the inverse of Encode: every byte was what it was, or ErrDamaged.
func Decode(b []byte) (Message, error) {
	if len(b) < HeaderSize {
		return Message{}, fmt.Errorf("%w: %d bytes", ErrDamaged, len(b))
	}
	if sum := binary.BigEndian.Uint32(b[16:]); sum != messageSum(b) {
		return Message{}, fmt.Errorf("%w: sum %08x, not %08x", ErrDamaged, messageSum(b), sum)
	}
	stream := binary.BigEndian.Uint64(b)
	return Message{Stream: stream &^ replyBit, Number: binary.BigEndian.Uint64(b[8:]), Reply: stream&replyBit != 0}, nil
}
