package objectstore

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/rclone/gofakes3"
)

// Limits of multipart uploads. Uploads under way are known in memory only: after a restart of the
// daemon they are gone (NoSuchUpload) and clients begin again.
const (
	minPartBytes = 5 << 20 // all parts but the last (Amazon S3 User Guide, "Multipart upload limits")
	maxUploads   = 100     // at a time and account
	staleUpload  = 24 * time.Hour
)

// uploads are the multipart uploads under way.
type uploads struct {
	dir string
	// forget removes what gofakes3 knows about an upload.
	forget func(ctx context.Context, u *upload)

	mu   sync.Mutex // guards byID
	byID map[gofakes3.UploadID]*upload
}

func newUploads(dir string) *uploads {
	return &uploads{dir: filepath.Join(dir, "uploads"), byID: make(map[gofakes3.UploadID]*upload)}
}

type upload struct {
	id                   gofakes3.UploadID
	account, bucket, key string
	metadata             map[string]string
	dir                  string

	mu      sync.Mutex // guards the rest
	touched time.Time
	parts   map[int]part
	closed  bool // completed or aborted
}

type part struct {
	file string
	size int64
	etag string // MD5, quoted
}

// CreateMultipartUpload begins an upload. Abandoned ones are thrown away here: a day without a part.
func (b *backend) CreateMultipartUpload(ctx context.Context, bucket, key string, meta map[string]string) (gofakes3.UploadID, error) {
	if err := b.writable(ctx, bucket, key); err != nil {
		return "", err
	}
	now := b.clock.Now()
	b.uploads.removeStale(ctx, now)
	id := newName()
	u := &upload{
		id: gofakes3.UploadID(id), account: callerOf(ctx).account, bucket: bucket, key: key,
		metadata: maps.Clone(meta), dir: filepath.Join(b.uploads.dir, id), touched: now, parts: make(map[int]part),
	}
	if err := b.uploads.add(u); err != nil {
		return "", err
	}
	if err := os.Mkdir(u.dir, 0o700); err != nil {
		b.uploads.remove(u)
		return "", storageError("create upload folder", err)
	}
	return u.id, nil
}

func (s *uploads) add(u *upload) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, other := range s.byID {
		if other.account == u.account {
			n++
		}
	}
	if n >= maxUploads {
		return newError(gofakes3.ErrSlowDown, gofakes3.ErrSlowDown,
			"There are %d multipart uploads under way. Complete or abort some.", n)
	}
	s.byID[u.id] = u
	return nil
}

func (s *uploads) remove(u *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, u.id)
}

// find returns the caller's upload.
func (s *uploads) find(ctx context.Context, bucket, key string, id gofakes3.UploadID) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.byID[id]
	if u == nil || u.account != callerOf(ctx).account || u.bucket != bucket || u.key != key {
		return nil, gofakes3.ErrNoSuchUpload
	}
	return u, nil
}

func (s *uploads) removeStale(ctx context.Context, now time.Time) {
	for _, u := range s.all() {
		if !u.mu.TryLock() {
			continue // somebody is at work on it
		}
		if !u.closed && now.Sub(u.touched) > staleUpload {
			u.close()
			s.remove(u)
			s.forget(ctx, u)
		}
		u.mu.Unlock()
	}
}

func (s *uploads) all() []*upload {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*upload, 0, len(s.byID))
	for _, u := range s.byID {
		all = append(all, u)
	}
	return all
}

// close removes the parts. The caller holds u.mu. What cannot be removed goes at the next start.
func (u *upload) close() {
	u.closed = true
	_ = os.RemoveAll(u.dir)
}

// UploadPart stores one part. It is not synced: an upload does not outlive the process.
func (b *backend) UploadPart(ctx context.Context, bucket, key string, id gofakes3.UploadID, number int, size int64, body io.Reader) (string, error) {
	u, err := b.uploads.find(ctx, bucket, key, id)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(u.dir, strconv.Itoa(number)+"-*")
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return "", gofakes3.ErrNoSuchUpload
		}
		return "", storageError("create part", err)
	}
	stored := part{file: f.Name()}
	sum := md5.New()
	stored.size, err = io.CopyBuffer(onlyWriter{io.MultiWriter(sum, f)}, io.LimitReader(body, b.limit+1), make([]byte, copyBuffer))
	stored.etag = quotedETag(sum.Sum(nil))
	if err == nil && stored.size != size {
		err = gofakes3.ErrIncompleteBody
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = u.addPart(number, stored, b.limit, b.clock.Now())
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", storageError("store part", err)
	}
	callerOf(ctx).body.stored = true
	return stored.etag, nil
}

// addPart puts p in place of an earlier part of that number.
func (u *upload) addPart(number int, p part, limit int64, now time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return gofakes3.ErrNoSuchUpload
	}
	total := p.size
	for n, other := range u.parts {
		if n != number {
			total += other.size
		}
	}
	if total > limit {
		return errTooLarge(limit)
	}
	if old, ok := u.parts[number]; ok {
		_ = os.Remove(old.file)
	}
	u.parts[number], u.touched = p, now
	return nil
}

// AbortMultipartUpload throws an upload away.
func (b *backend) AbortMultipartUpload(ctx context.Context, bucket, key string, id gofakes3.UploadID) error {
	u, err := b.uploads.find(ctx, bucket, key, id)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.close()
	b.uploads.remove(u)
	return nil
}

// CompleteMultipartUpload writes the parts listed into one object. Its ETag is the MD5 of the
// content. A checksum of the whole object sent with the request is compared.
func (b *backend) CompleteMultipartUpload(ctx context.Context, bucket, key string, id gofakes3.UploadID, input *gofakes3.CompleteMultipartUploadRequest) (gofakes3.VersionID, string, error) {
	u, err := b.uploads.find(ctx, bucket, key, id)
	if err != nil {
		return "", "", err
	}
	if err := b.own(ctx, bucket); err != nil {
		return "", "", err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return "", "", gofakes3.ErrNoSuchUpload
	}
	parts, err := u.listed(input.Parts)
	if err != nil {
		return "", "", err
	}
	o := &object{bucket: bucket, key: key, metadata: maps.Clone(u.metadata)}
	if err := b.assemble(ctx, o, parts); err != nil {
		return "", "", err
	}
	if err := b.commit(ctx, o); err != nil {
		return "", "", err
	}
	u.close()
	b.uploads.remove(u)
	return "", quotedETag(o.md5), nil
}

// listed are the parts the client wants, in its order, which must be ascending.
func (u *upload) listed(wanted []gofakes3.CompletedPart) ([]part, error) {
	if len(wanted) == 0 {
		return nil, newError(badRequest, gofakes3.ErrMalformedXML, "You must specify at least one part")
	}
	for i := 1; i < len(wanted); i++ {
		if wanted[i].PartNumber <= wanted[i-1].PartNumber {
			return nil, gofakes3.ErrInvalidPartOrder
		}
	}
	parts := make([]part, len(wanted))
	for i, w := range wanted {
		p, ok := u.parts[w.PartNumber]
		if !ok || unquoteETag(w.ETag) != unquoteETag(p.etag) {
			return nil, gofakes3.ErrorMessagef(gofakes3.ErrInvalidPart, "Part %d was not uploaded or has another ETag.", w.PartNumber)
		}
		if i < len(wanted)-1 && p.size < minPartBytes {
			return nil, newError(badRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
		}
		parts[i] = p
	}
	return parts, nil
}

// assemble writes the parts into one blob and fills in o.
func (b *backend) assemble(ctx context.Context, o *object, parts []part) error {
	sum := newChecksum(defaultAlgorithm)
	if declared := callerOf(ctx).wholeObject; declared != nil {
		sum = declared
	}
	files := make([]io.Reader, len(parts))
	for i, p := range parts {
		files[i] = &partReader{ctx: ctx, path: p.file}
		o.partSizes = append(o.partSizes, p.size)
	}
	content, err := b.blobs.write(io.MultiReader(files...), b.limit, sum.hash)
	if err != nil {
		return err
	}
	if err := sum.verify(); err != nil {
		b.drop(content.name)
		return err
	}
	o.blob = *content
	sum.store(o.metadata)
	return nil
}

// partReader opens its file when it is read first, so that one at a time is open.
type partReader struct {
	ctx  context.Context
	path string
	f    *os.File
}

func (p *partReader) Read(buf []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, fmt.Errorf("client went away: %w", err)
	}
	if p.f == nil {
		f, err := os.Open(p.path)
		if err != nil {
			return 0, err
		}
		p.f = f
	}
	n, err := p.f.Read(buf)
	if err != nil {
		_ = p.f.Close() // it was only read
	}
	return n, err
}

// wholeObjectChecksum is what a CompleteMultipartUpload request says about the object, nil if nothing.
func wholeObjectChecksum(r *http.Request) (*checksum, error) {
	if r.Method != http.MethodPost || !r.URL.Query().Has("uploadId") {
		return nil, nil
	}
	if r.Header.Get(checksumHeader+"Type") == "COMPOSITE" {
		return nil, newError(gofakes3.ErrNotImplemented, gofakes3.ErrNotImplemented, "Composite checksums are not supported.")
	}
	sum, err := declaredChecksum(r.Header)
	if err != nil || sum.want == nil {
		return nil, err
	}
	return sum, nil
}
