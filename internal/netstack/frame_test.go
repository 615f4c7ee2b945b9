package netstack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFramesHaveABigEndianLengthBeforeThem(t *testing.T) {
	wire := appendFrame([]byte("before"), []byte{1, 2}, nil, []byte{3})
	require.Equal(t, append([]byte("before"), 0, 0, 0, 3, 1, 2, 3), wire)
}

func TestFrameLengthsAreBounded(t *testing.T) {
	full := bytes.Repeat([]byte{7}, maxFrame)
	tests := []struct {
		name  string
		input []byte
		want  error // after the good frames
		good  int
	}{
		{"nothing", nil, io.EOF, 0},
		{"one full frame", appendFrame(nil, full), io.EOF, 1},
		{"the shortest frame", appendFrame(nil, full[:minFrame]), io.EOF, 1},
		{"two frames", appendFrame(appendFrame(nil, full), full), io.EOF, 2},
		{"one byte too long", appendFrame(nil, append(full, 7)), errFrameLength, 0},
		{"one byte too short", appendFrame(nil, full[:minFrame-1]), errFrameLength, 0},
		{"no length at all", appendFrame(nil), errFrameLength, 0},
		{"four gigabytes promised", []byte{0xff, 0xff, 0xff, 0xff}, errFrameLength, 0},
		{"half a length", []byte{0, 0}, io.ErrUnexpectedEOF, 0},
		{"half a frame", appendFrame(nil, full)[:100], io.ErrUnexpectedEOF, 0},
		{"only a length", appendFrame(nil, full)[:prefixSize], io.ErrUnexpectedEOF, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			frames := newFrameReader(bytes.NewReader(test.input))
			for range test.good {
				frame, err := frames.next()
				require.NoError(t, err)
				frame.Release()
			}
			_, err := frames.next()
			require.ErrorIs(t, err, test.want)
		})
	}
}

func FuzzFrameReader(f *testing.F) {
	f.Add(appendFrame(nil, bytes.Repeat([]byte{1}, 60)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Add([]byte{0, 0, 0, 20, 1})
	f.Fuzz(func(t *testing.T, input []byte) {
		frames := newFrameReader(bytes.NewReader(input))
		for at := 0; ; {
			frame, err := frames.next()
			if err != nil {
				require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errFrameLength), err)
				return
			}
			size := int(binary.BigEndian.Uint32(input[at:]))
			require.Equal(t, input[at+prefixSize:at+prefixSize+size], frame.AsSlice())
			at += prefixSize + size
			frame.Release()
		}
	})
}

// FuzzStack plays a guest that sends whatever it likes: the input is cut into frames, half of them
// dressed up with good addresses so that they get past the door.
func FuzzStack(f *testing.F) {
	f.Add(synTo("203.0.113.5:80"), uint8(60), true)
	f.Add(synTo("10.0.2.3:53"), uint8(54), true)
	f.Add(dnsQuestionFrame(), uint8(255), true)
	f.Add(arpRequestFor("10.0.2.2"), uint8(42), false)
	f.Add(pingTo("10.0.2.2"), uint8(42), false)
	f.Fuzz(func(t *testing.T, input []byte, cut uint8, dress bool) {
		before := runtime.NumGoroutine()
		ours, theirs := net.Pipe()
		s, err := New(ours, Config{Policy: Policy{Internet: true}, Resolver: zone{}, Dial: refuseAll, HostAddrs: noHost})
		require.NoError(t, err)
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		for len(input) > 0 {
			n := min(int(cut)+minFrame, len(input))
			frame := bytes.Clone(input[:n])
			input = input[n:]
			if len(frame) < minFrame {
				break
			}
			if dress {
				dressUp(frame)
			}
			if _, err := theirs.Write(appendFrame(nil, frame)); err != nil {
				t.Fatal(err) // every frame had a permitted length
			}
		}
		require.NoError(t, s.Close())
		require.NoError(t, s.Err())
		theirs.Close()
		requireGoroutines(t, before)
	})
}
