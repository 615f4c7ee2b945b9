package guest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
)

// ErrFrameSize says that a frame is longer than MaxFrame.
var ErrFrameSize = errors.New("guest: frame too long")

// frameHeader is the length that stands before every frame, in bytes.
const frameHeader = 4

// AppendFrame adds body to b as one frame. It does not judge its size.
func AppendFrame(b, body []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

// WriteFrame sends body as one frame, in one write.
func WriteFrame(w io.Writer, body []byte) error {
	if len(body) > MaxFrame {
		return ErrFrameSize
	}
	_, err := w.Write(AppendFrame(make([]byte, 0, frameHeader+len(body)), body))
	return err
}

// ReadFrame reads one frame. io.EOF means that the other side closed between two frames.
func ReadFrame(r io.Reader) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[:])
	if size > MaxFrame {
		return nil, ErrFrameSize
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return body, nil
}

// WriteJSON sends v as one frame of JSON.
func WriteJSON(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return WriteFrame(w, body)
}

// ReadJSON reads one frame of JSON into v.
func ReadJSON(r io.Reader, v any) error {
	body, err := ReadFrame(r)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}
