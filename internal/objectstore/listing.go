package objectstore

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/rclone/gofakes3"
)

// ListBucket lists keys after page.Marker that begin with the prefix. With a delimiter, all keys
// that share what comes up to it, after the prefix, count as one common prefix.
func (b *backend) ListBucket(ctx context.Context, bucket string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	if err := b.own(ctx, bucket); err != nil {
		return nil, err
	}
	if prefix == nil {
		prefix = &gofakes3.Prefix{}
	}
	limit := page.MaxKeys
	if limit <= 0 {
		limit = gofakes3.MaxBucketKeys
	}
	found := gofakes3.NewObjectList()
	from, to := []byte(prefix.Prefix), after([]byte(prefix.Prefix))
	if start := afterMarker(page.Marker, prefix); bytes.Compare(start, from) > 0 {
		from = start
	}
	for {
		room := limit - int64(len(found.Contents)+len(found.CommonPrefixes))
		rows, err := b.index.list(ctx, callerOf(ctx).account, bucket, from, to, room+1)
		if err != nil {
			return nil, fmt.Errorf("list objects: %w", err)
		}
		next, full := collect(found, rows, prefix, room)
		if full || next == nil {
			found.IsTruncated = full
			return found, nil
		}
		from = next
	}
}

// collect adds rows to found until room is used up (full). It stops behind a common prefix, where
// the listing goes on from next; next is nil when there is nothing more.
func collect(found *gofakes3.ObjectList, rows []*object, prefix *gofakes3.Prefix, room int64) (next []byte, full bool) {
	for i, o := range rows {
		if int64(i) == room {
			return nil, true
		}
		if common, ok := commonPrefix(o.key, prefix); ok {
			found.AddPrefix(common)
			found.NextMarker = common
			return after([]byte(common)), false
		}
		found.NextMarker = o.key
		found.Add(&gofakes3.Content{
			Key: o.key, Size: o.size, ETag: quotedETag(o.md5), LastModified: gofakes3.NewContentTime(o.modified),
		})
	}
	found.NextMarker = ""
	return nil, false
}

// commonPrefix is key up to and including the first delimiter after the prefix.
func commonPrefix(key string, prefix *gofakes3.Prefix) (string, bool) {
	if prefix.Delimiter == "" {
		return "", false
	}
	end := strings.Index(key[len(prefix.Prefix):], prefix.Delimiter)
	if end < 0 {
		return "", false
	}
	return key[:len(prefix.Prefix)+end+len(prefix.Delimiter)], true
}

// afterMarker is the first key a page begins with: behind the marker, and behind everything below
// it when the marker is a common prefix that the page before ended with.
func afterMarker(marker string, prefix *gofakes3.Prefix) []byte {
	if marker == "" {
		return nil
	}
	if strings.HasPrefix(marker, prefix.Prefix) {
		if common, ok := commonPrefix(marker, prefix); ok && common == marker {
			return after([]byte(marker))
		}
	}
	return append([]byte(marker), 0)
}

// after is the first key that does not begin with prefix and comes after those that do; nil if
// there is none.
func after(prefix []byte) []byte {
	for end := len(prefix); end > 0; end-- {
		if prefix[end-1] < 0xff {
			next := bytes.Clone(prefix[:end])
			next[end-1]++
			return next
		}
	}
	return nil
}
