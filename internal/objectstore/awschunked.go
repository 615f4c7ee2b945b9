package objectstore

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// The body of an upload with Content-Encoding aws-chunked is
//
//	size[;chunk-signature=hex] CRLF data CRLF … 0[;chunk-signature=hex] CRLF [name:value CRLF …] CRLF
//
// (Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring
// Payload in Multiple Chunks"). Sizes are hexadecimal.
const (
	maxChunkLine    = 1 << 10 // bytes; real ones have about 90
	maxTrailerBytes = 4 << 10 // of all trailer lines together
	rawBufferBytes  = 32 << 10
)

var errMalformedChunk = newError(badRequest, "InvalidChunkSizeError", "The aws-chunked body is malformed.")

// chunkedReader reads the data out of an aws-chunked body, in constant memory. It checks the
// chunk signatures when signer is set; a wrong one is reported in place of the end of its chunk.
type chunkedReader struct {
	raw      *bufio.Reader
	signer   *chunkSigner
	remain   int64  // bytes of the present chunk not read yet
	inChunk  bool   // a chunk was begun and its end not seen
	given    string // signature of the present chunk, as sent
	done     bool
	trailers http.Header // set when done
}

func newChunkedReader(raw io.Reader, signer *chunkSigner) *chunkedReader {
	return &chunkedReader{raw: bufio.NewReaderSize(raw, rawBufferBytes), signer: signer}
}

func (c *chunkedReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for c.remain == 0 {
		if c.done {
			return 0, io.EOF
		}
		if err := c.next(); err != nil {
			return 0, midBody(err)
		}
	}
	if int64(len(p)) > c.remain {
		p = p[:c.remain]
	}
	n, err := c.raw.Read(p)
	c.remain -= int64(n)
	if c.signer != nil {
		c.signer.chunk.Write(p[:n])
	}
	return n, midBody(err)
}

// next ends the present chunk and begins the next one; the last one has no data.
func (c *chunkedReader) next() error {
	if c.inChunk {
		if err := c.endChunk(); err != nil {
			return err
		}
	}
	line, err := c.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, extension, _ := strings.Cut(line, ";")
	c.remain, err = strconv.ParseInt(size, 16, 64)
	if err != nil || c.remain < 0 {
		return errMalformedChunk
	}
	name, given, _ := strings.Cut(extension, "=")
	if c.signer != nil && name != "chunk-signature" {
		return errMalformedChunk
	}
	c.given, c.inChunk = given, true
	if c.remain > 0 {
		return nil
	}
	if c.signer != nil {
		if err := c.signer.endChunk(c.given); err != nil {
			return err
		}
	}
	c.done = true
	return c.readTrailers()
}

func (c *chunkedReader) endChunk() error {
	line, err := c.line(maxChunkLine)
	if err != nil {
		return err
	}
	if line != "" {
		return errMalformedChunk
	}
	if c.signer != nil {
		return c.signer.endChunk(c.given)
	}
	return nil
}

func (c *chunkedReader) readTrailers() error {
	c.trailers = make(http.Header)
	var signed bytes.Buffer // the lines that the trailer signature covers
	for budget := maxTrailerBytes; ; {
		line, err := c.line(budget)
		if errors.Is(err, io.EOF) && len(c.trailers) == 0 {
			break // some clients leave out the last empty line when there is no trailer
		}
		if err != nil {
			return err
		}
		budget -= len(line) + 2
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || budget <= 0 {
			return errMalformedChunk
		}
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if name != trailerSignature {
			signed.WriteString(name + ":" + value + "\n")
		}
		c.trailers.Set(textproto.CanonicalMIMEHeaderKey(name), value)
	}
	if c.signer != nil && c.signer.withTrailer {
		return c.signer.endTrailer(signed.Bytes(), c.trailers.Get(trailerSignature))
	}
	return nil
}

const trailerSignature = "x-amz-trailer-signature"

// line reads one line of at most limit bytes and drops its end, LF or CRLF.
func (c *chunkedReader) line(limit int) (string, error) {
	line, err := c.raw.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) > limit {
		return "", errMalformedChunk
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

// midBody tells a connection that ended inside the body from the end of the data.
func midBody(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// chunkSigner checks the chain of signatures of a signed aws-chunked body: each covers the one
// before it, and the first covers the signature of the request.
type chunkSigner struct {
	key         []byte
	time, scope string // as in the request's string to sign
	previous    string
	chunk       hash.Hash // SHA-256 of the present chunk
	withTrailer bool
}

func newChunkSigner(s *signer, withTrailer bool) *chunkSigner {
	return &chunkSigner{
		key: s.signingKey(), time: s.time, scope: s.scope,
		previous: s.signature, chunk: sha256.New(), withTrailer: withTrailer,
	}
}

func (s *chunkSigner) endChunk(given string) error {
	sum := hex.EncodeToString(s.chunk.Sum(nil))
	s.chunk.Reset()
	return s.check(given, "AWS4-HMAC-SHA256-PAYLOAD", emptySHA256+"\n"+sum)
}

func (s *chunkSigner) endTrailer(trailer []byte, given string) error {
	sum := sha256.Sum256(trailer)
	return s.check(given, "AWS4-HMAC-SHA256-TRAILER", hex.EncodeToString(sum[:]))
}

func (s *chunkSigner) check(given, algorithm, last string) error {
	text := strings.Join([]string{algorithm, s.time, s.scope, s.previous, last}, "\n")
	want := hex.EncodeToString(hmacSHA256(s.key, text))
	if !hmac.Equal([]byte(want), []byte(given)) {
		return newError(forbidden, "SignatureDoesNotMatch",
			"The chunk signature we calculated does not match the signature you provided.")
	}
	s.previous = want
	return nil
}

func hmacSHA256(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
