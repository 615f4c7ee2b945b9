package objectstore

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/rclone/gofakes3"
)

// crc64NVMe is the table of CRC-64/NVME, reflected (NVM Express NVM Command Set Specification, 5.2.1.3.4).
var crc64NVMe = crc64.MakeTable(0x9a6c9329ac4bc9b5)

// algorithms are the checksums of S3, by the end of their header x-amz-checksum-<name>.
var algorithms = map[string]func() hash.Hash{
	"crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"crc64nvme": func() hash.Hash { return crc64.New(crc64NVMe) },
	"sha1":      sha1.New,
	"sha256":    sha256.New,
}

// defaultAlgorithm is what S3 computes when the client asks for none.
const defaultAlgorithm = "crc64nvme"

const checksumHeader = "X-Amz-Checksum-"

// checksum is one running checksum and, as soon as it is known, what it must come to.
type checksum struct {
	algorithm string
	hash      hash.Hash
	want      []byte // nil: nothing declared
	inTrailer bool   // want comes after the body
}

func newChecksum(algorithm string) *checksum {
	return &checksum{algorithm: algorithm, hash: algorithms[algorithm]()}
}

// declaredChecksum reads what the client says about the body: a header x-amz-checksum-<algorithm>,
// or x-amz-trailer with the name of such a header. Without either it is the default algorithm
// with nothing to compare.
func declaredChecksum(h http.Header) (*checksum, error) {
	var c *checksum
	for name, values := range h {
		algorithm, ok := strings.CutPrefix(name, checksumHeader)
		if !ok || len(values) == 0 || algorithm == "Type" || algorithm == "Algorithm" || algorithm == "Mode" {
			continue
		}
		if c != nil {
			return nil, errInvalid("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		var err error
		if c, err = knownChecksum(algorithm); err != nil {
			return nil, err
		}
		if err := c.expect(values[0]); err != nil {
			return nil, err
		}
	}
	trailer := strings.TrimSpace(h.Get("X-Amz-Trailer"))
	if trailer == "" {
		if c == nil {
			c = newChecksum(defaultAlgorithm)
		}
		return c, nil
	}
	algorithm, ok := strings.CutPrefix(textproto.CanonicalMIMEHeaderKey(trailer), checksumHeader)
	if !ok || c != nil {
		return nil, errInvalid("The value specified in the x-amz-trailer header is not supported")
	}
	c, err := knownChecksum(algorithm)
	if err != nil {
		return nil, err
	}
	c.inTrailer = true
	return c, nil
}

func knownChecksum(algorithm string) (*checksum, error) {
	algorithm = strings.ToLower(algorithm)
	if algorithms[algorithm] == nil {
		return nil, errInvalid("The checksum algorithm %q is not supported.", algorithm)
	}
	return newChecksum(algorithm), nil
}

// expect sets what the checksum must come to, from its base64 form.
func (c *checksum) expect(value string) error {
	sum, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
	if err != nil || len(sum) != c.hash.Size() {
		return errInvalid("Value for x-amz-checksum-%s header is invalid.", c.algorithm)
	}
	c.want = sum
	return nil
}

func (c *checksum) verify() error {
	if c.want == nil || bytes.Equal(c.want, c.hash.Sum(nil)) {
		return nil
	}
	return newError(badRequest, gofakes3.ErrBadDigest,
		"The %s you specified did not match the calculated checksum.", strings.ToUpper(c.algorithm))
}

// header is the canonical header name of the checksum, value its base64 form.
func (c *checksum) header() string {
	return textproto.CanonicalMIMEHeaderKey(checksumHeader + c.algorithm)
}
func (c *checksum) value() string { return base64.StdEncoding.EncodeToString(c.hash.Sum(nil)) }

// store puts the checksum of the whole object into its metadata, in place of any other.
func (c *checksum) store(meta map[string]string) {
	for name := range meta {
		if strings.HasPrefix(name, checksumHeader) {
			delete(meta, name)
		}
	}
	meta[c.header()] = c.value()
	meta[checksumHeader+"Type"] = "FULL_OBJECT"
}
