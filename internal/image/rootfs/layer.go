package rootfs

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// readBudget counts what is unpacked from all layers; the sizes in their headers are a claim.
type readBudget struct{ left int64 }

func (b *readBudget) limit(r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if b.left -= int64(n); b.left < 0 {
			return n, fmt.Errorf("%w: its layers unpack to too many bytes", ErrTooLarge)
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// entryFunc gets the entries of layer number layer in turn; content is the entry's data.
type entryFunc func(layer, entry int, header *tar.Header, content io.Reader) error

// readLayer passes every entry of a layer to visit, and checks the layer against its digest.
func (i *image) readLayer(ctx context.Context, layer int, budget *readBudget, visit entryFunc) error {
	d := i.layers[layer]
	file, err := os.Open(blobPath(i.layout, d.Digest))
	if err != nil {
		return fmt.Errorf("open layer %s: %w", d.Digest, err)
	}
	defer file.Close()
	sum := sha256.New()
	blob := bufio.NewReaderSize(io.TeeReader(file, sum), 1<<20)
	if err := readEntries(ctx, layer, d, blob, budget, visit); err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	return checkDigest(d.Digest, blob, sum)
}

func readEntries(ctx context.Context, layer int, d v1.Descriptor, blob io.Reader, budget *readBudget, visit entryFunc) error {
	content, err := decompress(d, blob)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	defer content.Close()
	reader := tar.NewReader(budget.limit(content))
	for entry := 0; ; entry++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		header, err := reader.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, ErrTooLarge):
			return err
		case err != nil:
			return fmt.Errorf("%w: %v", ErrInvalid, err)
		}
		if err := visit(layer, entry, header, reader); err != nil {
			return err
		}
	}
}

// decompress goes by the media type, which the manifest's digest vouches for.
func decompress(d v1.Descriptor, blob io.Reader) (io.ReadCloser, error) {
	switch kind := string(d.MediaType); {
	case strings.HasSuffix(kind, "gzip"):
		return gzip.NewReader(blob)
	case strings.HasSuffix(kind, "zstd"):
		// 128 MiB: the largest window of zstd's ordinary levels; the default is half a gigabyte.
		reader, err := zstd.NewReader(blob, zstd.WithDecoderMaxMemory(128<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return reader.IOReadCloser(), nil
	case strings.HasSuffix(kind, "tar"):
		return io.NopCloser(blob), nil
	default:
		return nil, fmt.Errorf("unknown kind of layer %q", kind)
	}
}

// checkDigest reads what the tar reader left behind its end mark and compares the digest.
func checkDigest(want v1.Hash, blob io.Reader, sum hash.Hash) error {
	if _, err := io.Copy(io.Discard, blob); err != nil {
		return fmt.Errorf("read layer %s: %w", want, err)
	}
	if want.Algorithm != "sha256" || hex.EncodeToString(sum.Sum(nil)) != want.Hex {
		return wrongDigest(want)
	}
	return nil
}
