package objectstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/jonboulle/clockwork"
	"github.com/rclone/gofakes3"
)

// backend is the store behind gofakes3. Every method acts for the caller in its context and
// touches only buckets of that account.
type backend struct {
	blobs   *blobs
	index   *index
	uploads *uploads
	limit   int64 // bytes of one object
	clock   clockwork.Clock
	log     *slog.Logger
}

var (
	_ gofakes3.Backend              = (*backend)(nil)
	_ gofakes3.MultipartBackend     = (*backend)(nil)
	_ gofakes3.ObjectTaggingBackend = (*backend)(nil)
)

// own returns nil if the caller's account owns the bucket.
func (b *backend) own(ctx context.Context, bucket string) error {
	account, err := b.index.owner(ctx, bucket)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return gofakes3.BucketNotFound(bucket)
	case err != nil:
		return fmt.Errorf("look up bucket: %w", err)
	case account != callerOf(ctx).account:
		return errAccessDenied()
	}
	return nil
}

func (b *backend) ListBuckets(ctx context.Context) ([]gofakes3.BucketInfo, error) {
	rows, err := b.index.buckets(ctx, callerOf(ctx).account)
	if err != nil {
		return nil, fmt.Errorf("list buckets: %w", err)
	}
	found := make([]gofakes3.BucketInfo, len(rows))
	for i, row := range rows {
		found[i] = gofakes3.BucketInfo{Name: row.name, CreationDate: gofakes3.NewContentTime(row.created)}
	}
	return found, nil
}

// BucketExists is what gofakes3 asks before nearly everything it does.
func (b *backend) BucketExists(ctx context.Context, bucket string) (bool, error) {
	err := b.own(ctx, bucket)
	if gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchBucket) {
		return false, nil
	}
	return err == nil, err
}

// maxBuckets is how many buckets an account may have.
const maxBuckets = 1000

func (b *backend) CreateBucket(ctx context.Context, bucket string) error {
	owned, err := b.index.buckets(ctx, callerOf(ctx).account)
	if err != nil {
		return fmt.Errorf("count buckets: %w", err)
	}
	if len(owned) >= maxBuckets {
		return gofakes3.ErrTooManyBuckets
	}
	added, err := b.index.addBucket(ctx, bucket, callerOf(ctx).account, b.clock.Now())
	if err != nil {
		return storageError("create bucket", err)
	}
	if added {
		return nil
	}
	if b.own(ctx, bucket) == nil {
		return newError(conflict, "BucketAlreadyOwnedByYou",
			"Your previous request to create the named bucket succeeded and you already own it.")
	}
	return newError(conflict, gofakes3.ErrBucketAlreadyExists,
		"The requested bucket name is not available. Please select a different name and try again.")
}

func (b *backend) DeleteBucket(ctx context.Context, bucket string) error {
	if err := b.own(ctx, bucket); err != nil {
		return err
	}
	removed, err := b.index.removeBucket(ctx, bucket)
	if err != nil {
		return storageError("delete bucket", err)
	}
	if !removed {
		return gofakes3.ResourceError(gofakes3.ErrBucketNotEmpty, bucket)
	}
	return nil
}

func (b *backend) PutObject(ctx context.Context, bucket, key string, meta map[string]string, input io.Reader, size int64) (gofakes3.PutObjectResult, error) {
	if err := b.writable(ctx, bucket, key); err != nil {
		return gofakes3.PutObjectResult{}, err
	}
	content, err := b.blobs.write(input, b.limit)
	if err != nil {
		return gofakes3.PutObjectResult{}, err
	}
	if size >= 0 && content.size != size {
		b.drop(content.name)
		return gofakes3.PutObjectResult{}, gofakes3.ErrIncompleteBody
	}
	meta = maps.Clone(meta)
	body := callerOf(ctx).body
	body.sum.store(meta)
	o := &object{bucket: bucket, key: key, blob: *content, metadata: meta}
	if err := b.commit(ctx, o); err != nil {
		return gofakes3.PutObjectResult{}, err
	}
	body.stored = true
	return gofakes3.PutObjectResult{ETag: quotedETag(o.md5)}, nil
}

// writable checks the name of an object that is about to be written.
func (b *backend) writable(ctx context.Context, bucket, key string) error {
	if len(key) > gofakes3.KeySizeLimit {
		return gofakes3.ResourceError(gofakes3.ErrKeyTooLong, key)
	}
	if !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
		return newError(badRequest, gofakes3.ErrInvalidURI, "The key is not valid UTF-8.")
	}
	return b.own(ctx, bucket)
}

// commit makes o, whose blob is on disk, the object of its key.
func (b *backend) commit(ctx context.Context, o *object) error {
	delete(o.metadata, "Last-Modified") // kept in modified
	o.modified = b.clock.Now()
	account := callerOf(ctx).account
	// A client that goes away must not make it unknown whether the commit happened.
	replaced, err := b.index.put(context.WithoutCancel(ctx), account, o, func(md5 []byte) error {
		return gofakes3.CheckWriteConditions(ctx, md5 != nil, quotedETag(md5))
	})
	if err != nil {
		b.dropUnknown(ctx, o.name)
		if errors.Is(err, sql.ErrNoRows) { // the bucket went away during the upload
			return gofakes3.BucketNotFound(o.bucket)
		}
		return storageError("commit object", err)
	}
	if replaced != "" {
		b.drop(replaced)
	}
	return nil
}

// dropUnknown removes a blob whose commit failed, if it is certain that it did.
func (b *backend) dropUnknown(ctx context.Context, name string) {
	known, err := b.index.hasBlob(context.WithoutCancel(ctx), name)
	if err == nil && !known {
		b.drop(name)
	}
}

// drop removes a blob nothing refers to. If that fails, the sweep at the next start will.
func (b *backend) drop(name string) {
	if err := b.blobs.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.log.Warn("object left on disk", "blob", name, "error", err)
	}
}

func (b *backend) HeadObject(ctx context.Context, bucket, key string) (*gofakes3.Object, error) {
	o, err := b.lookup(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	return o.answer(http.NoBody, nil), nil
}

func (b *backend) lookup(ctx context.Context, bucket, key string) (*object, error) {
	if err := b.own(ctx, bucket); err != nil {
		return nil, err
	}
	o, err := b.index.get(ctx, callerOf(ctx).account, bucket, key)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, gofakes3.KeyNotFound(key)
	}
	if err != nil {
		return nil, fmt.Errorf("look up object: %w", err)
	}
	return o, nil
}

func (b *backend) GetObject(ctx context.Context, bucket, key string, wanted *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	o, f, err := b.open(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	if wanted != nil && wanted.FromEnd && wanted.End > o.size { // the last n bytes of fewer are all
		wanted = &gofakes3.ObjectRangeRequest{FromEnd: true, End: o.size}
	}
	part, err := wanted.Range(o.size)
	if err != nil {
		_ = f.Close() // it was only read
		return nil, err
	}
	contents := io.ReadCloser(f)
	if part != nil {
		contents = rangeReader{io.NewSectionReader(f, part.Start, part.Length), f}
	}
	return o.answer(contents, part), nil
}

type rangeReader struct {
	io.Reader
	io.Closer
}

// open returns an object and its contents, which stay readable when the object is replaced.
func (b *backend) open(ctx context.Context, bucket, key string) (*object, *os.File, error) {
	const tries = 10 // each lost one means that somebody replaced the object meanwhile
	for i := 0; ; i++ {
		o, err := b.lookup(ctx, bucket, key)
		if err != nil {
			return nil, nil, err
		}
		f, err := os.Open(b.blobs.path(o.name))
		if err == nil {
			return o, f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || i == tries {
			return nil, nil, fmt.Errorf("open contents of %s/%s: %w", bucket, key, err)
		}
	}
}

// answer is o in gofakes3's form.
func (o *object) answer(contents io.ReadCloser, part *gofakes3.ObjectRange) *gofakes3.Object {
	meta := maps.Clone(o.metadata)
	meta["Last-Modified"] = o.modified.UTC().Format(http.TimeFormat)
	return &gofakes3.Object{
		Name: o.key, Metadata: meta, Size: o.size, Hash: o.md5, Contents: contents, Range: part, PartSizes: o.partSizes,
	}
}

func (b *backend) DeleteObject(ctx context.Context, bucket, key string) (gofakes3.ObjectDeleteResult, error) {
	if err := b.own(ctx, bucket); err != nil {
		return gofakes3.ObjectDeleteResult{}, err
	}
	name, err := b.index.remove(ctx, callerOf(ctx).account, bucket, key)
	if errors.Is(err, sql.ErrNoRows) {
		return gofakes3.ObjectDeleteResult{}, nil // deleting what is not there succeeds
	}
	if err != nil {
		return gofakes3.ObjectDeleteResult{}, storageError("delete object", err)
	}
	b.drop(name)
	return gofakes3.ObjectDeleteResult{}, nil
}

func (b *backend) DeleteMulti(ctx context.Context, bucket string, keys ...string) (gofakes3.MultiDeleteResult, error) {
	var result gofakes3.MultiDeleteResult
	for _, key := range keys {
		if _, err := b.DeleteObject(ctx, bucket, key); err != nil {
			failed := gofakes3.ErrorResultFromError(err)
			failed.Key = key
			result.Error = append(result.Error, failed)
			continue
		}
		result.Deleted = append(result.Deleted, gofakes3.ObjectID{Key: key})
	}
	return result, nil
}

func (b *backend) CopyObject(ctx context.Context, srcBucket, srcKey, dstBucket, dstKey string, meta map[string]string) (gofakes3.CopyObjectResult, error) {
	if err := b.writable(ctx, dstBucket, dstKey); err != nil {
		return gofakes3.CopyObjectResult{}, err
	}
	src, err := b.lookup(ctx, srcBucket, srcKey)
	if err != nil {
		return gofakes3.CopyObjectResult{}, err
	}
	name, err := b.blobs.link(src.name)
	if err != nil {
		return gofakes3.CopyObjectResult{}, err
	}
	meta = maps.Clone(meta)
	for header, value := range src.metadata { // the content's, so the copy has them too
		if strings.HasPrefix(header, checksumHeader) {
			meta[header] = value
		}
	}
	o := &object{bucket: dstBucket, key: dstKey, metadata: meta, blob: blob{name: name, size: src.size, md5: src.md5}}
	if err := b.commit(ctx, o); err != nil {
		return gofakes3.CopyObjectResult{}, err
	}
	return gofakes3.CopyObjectResult{ETag: quotedETag(o.md5), LastModified: gofakes3.NewContentTime(o.modified)}, nil
}

// SetObjectTagging replaces the tags, which are kept as metadata.
func (b *backend) SetObjectTagging(ctx context.Context, bucket, key, tagging string) error {
	o, err := b.lookup(ctx, bucket, key)
	if err != nil {
		return err
	}
	delete(o.metadata, gofakes3.TaggingMetadataKey)
	if tagging != "" {
		o.metadata[gofakes3.TaggingMetadataKey] = tagging
	}
	if err := b.index.setMetadata(ctx, o); err != nil {
		return storageError("tag object", err)
	}
	return nil
}
