package objectstore

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"

	"github.com/rclone/gofakes3"
)

// Values of x-amz-content-sha256 that are no digest (Amazon S3 API Reference, "Common Request Headers").
const (
	unsignedPayload   = "UNSIGNED-PAYLOAD"
	unsignedTrailer   = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	signedChunks      = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedChunkTrails = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"

	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// body is the data of a request's body, out of whatever it was wrapped in. It never hands out the
// last byte before length, digest, checksum and signatures of the whole were found right, so
// nothing that reads exactly Content-Length bytes can store a corrupted object.
type body struct {
	data    *bufio.Reader
	length  int64 // bytes declared, -1 if not
	read    int64
	sha256  hash.Hash // nil: payload not signed
	want256 []byte
	sum     *checksum
	chunks  *chunkedReader // nil: not aws-chunked
	ended   bool
	err     error
	stored  bool // as (part of) an object
}

// openBody wraps r's body and rewrites r to look like a plain upload of the data.
func openBody(r *http.Request, s *signer, raw io.Reader, limit int64) (*body, error) {
	b := &body{length: r.ContentLength}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if s.presigned && payload == "" {
		payload = unsignedPayload
	}
	switch payload {
	case unsignedPayload:
	case unsignedTrailer:
		b.chunks = newChunkedReader(raw, nil)
	case signedChunks, signedChunkTrails:
		if s.presigned {
			return nil, errInvalid("A presigned URL cannot be used with signed chunks.")
		}
		b.chunks = newChunkedReader(raw, newChunkSigner(s, payload == signedChunkTrails))
	case "":
		payload = emptySHA256 // what the signature was checked with
		fallthrough
	default:
		want, err := hex.DecodeString(payload)
		if err != nil || len(want) != sha256.Size {
			return nil, newError(badRequest, gofakes3.ErrInvalidArgument,
				"x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a supported STREAMING- value, or a valid sha256 value.")
		}
		b.sha256, b.want256 = sha256.New(), want
	}
	if err := b.declare(r); err != nil {
		return nil, err
	}
	if b.length > limit {
		return nil, errTooLarge(limit)
	}
	if b.chunks != nil {
		raw = b.chunks
	}
	b.data = bufio.NewReaderSize(raw, rawBufferBytes)
	if b.length == 0 { // nobody reads an empty body, so look at it now
		if _, err := b.data.Peek(1); err == nil {
			return nil, errLength()
		}
		return b, b.finish()
	}
	return b, nil
}

// declare takes length and checksum from the headers and leaves those of a plain upload.
func (b *body) declare(r *http.Request) error {
	if b.chunks != nil {
		length, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || length < 0 {
			return newError(gofakes3.ErrMissingContentLength, gofakes3.ErrMissingContentLength,
				"You must provide the x-amz-decoded-content-length HTTP header.")
		}
		b.length = length
		r.ContentLength = length
		r.Header.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	b.sum = newChecksum(defaultAlgorithm)
	if r.Method == http.MethodPut { // elsewhere these headers are not about the body
		sum, err := declaredChecksum(r.Header)
		if err != nil {
			return err
		}
		if sum.inTrailer && b.chunks == nil {
			return errInvalid("x-amz-trailer needs a body with trailers.")
		}
		b.sum = sum
		r.Header.Del(sum.header())
	}
	r.Header.Del("X-Amz-Trailer")
	r.Header.Del("X-Amz-Decoded-Content-Length")
	r.Header.Set("X-Amz-Content-Sha256", unsignedPayload)
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.ended {
		return 0, io.EOF
	}
	n, err := b.data.Read(p)
	b.read += int64(n)
	b.sum.hash.Write(p[:n])
	if b.sha256 != nil {
		b.sha256.Write(p[:n])
	}
	if err == nil {
		_, err = b.data.Peek(1)
	}
	switch {
	case err == nil && (b.length < 0 || b.read < b.length):
		return n, nil
	case err == nil:
		b.err = errLength()
	case err == io.EOF:
		b.err = b.finish()
	case errors.Is(err, io.ErrUnexpectedEOF):
		b.err = errLength()
	default:
		b.err = err
	}
	if b.err != nil {
		return 0, b.err
	}
	return n, nil
}

// Close does nothing: the server owns the request's body.
func (b *body) Close() error { return nil }

// finish decides, at the end of the data, whether it is what the client meant to send.
func (b *body) finish() error {
	b.ended = true
	if b.length >= 0 && b.read != b.length {
		return errLength()
	}
	if b.sha256 != nil && !bytes.Equal(b.sha256.Sum(nil), b.want256) {
		return newError(badRequest, "XAmzContentSHA256Mismatch",
			"The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	if b.sum.inTrailer {
		value := b.chunks.trailers.Get(b.sum.header())
		if value == "" {
			return errInvalid("The trailer announced in x-amz-trailer is missing.")
		}
		if err := b.sum.expect(value); err != nil {
			return err
		}
	}
	return b.sum.verify()
}

func errLength() error {
	return newError(badRequest, gofakes3.ErrIncompleteBody,
		"You did not provide the number of bytes specified by the Content-Length HTTP header")
}
