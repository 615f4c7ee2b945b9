package objectstore

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// bucketName is the form of bucket names (Amazon S3 User Guide, "General purpose bucket naming rules").
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// maxKeyBytes is the longest object key (Amazon S3 User Guide, "Naming Amazon S3 objects").
const maxKeyBytes = 1024

// ParseURI takes s3://bucket/key apart.
func ParseURI(uri string) (bucket, key string, err error) {
	rest, ok := strings.CutPrefix(uri, "s3://")
	if !ok {
		return "", "", fmt.Errorf("%q is not of the form s3://bucket/key", uri)
	}
	bucket, key, _ = strings.Cut(rest, "/")
	if !bucketName.MatchString(bucket) {
		return "", "", fmt.Errorf("%q is not a bucket name", bucket)
	}
	if key == "" || len(key) > maxKeyBytes || !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
		return "", "", fmt.Errorf("%q is not an object key of 1 to %d bytes of UTF-8", key, maxKeyBytes)
	}
	return bucket, key, nil
}
