package objectstore

import (
	"sort"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
)

func TestListingsGroupAndPageAsS3Does(t *testing.T) {
	f := start(t, false)
	c := f.client("ALICE")
	f.bucket(t, c, "list")
	keys := []string{"a", "a/1", "a/2", "a/b/3", "b", "b-x", "b/1", "c/", "c/d", "é/x", "z"}
	for _, key := range keys {
		put(t, c, "list", key, key)
	}
	for _, prefix := range []string{"", "a", "a/", "b", "c/", "é", "none", "zz"} {
		for _, delimiter := range []string{"", "/", "-", "/b"} {
			for _, page := range []int32{1, 2, 3, 1000} {
				want := model(keys, prefix, delimiter)
				require.Equal(t, want, listV2(t, c, prefix, delimiter, page), "%q %q %d", prefix, delimiter, page)
				require.Equal(t, want, listV1(t, c, prefix, delimiter, page), "v1 %q %q %d", prefix, delimiter, page)
			}
		}
	}
	after, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("list"), StartAfter: aws.String("b-x")})
	require.NoError(t, err)
	require.Equal(t, "b/1", *after.Contents[0].Key)
}

// model is what a listing of all pages must hold, sorted.
func model(keys []string, prefix, delimiter string) []string {
	seen := map[string]bool{}
	for _, key := range keys {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		if i := strings.Index(rest, delimiter); delimiter != "" && i >= 0 {
			key = "PRE " + prefix + rest[:i+len(delimiter)]
		}
		seen[key] = true
	}
	return sorted(seen)
}

func sorted(seen map[string]bool) []string {
	found := []string{}
	for key := range seen {
		found = append(found, key)
	}
	sort.Strings(found)
	return found
}

func listV2(t *testing.T, c *s3.Client, prefix, delimiter string, page int32) []string {
	t.Helper()
	seen := map[string]bool{}
	add := func(name string) {
		require.False(t, seen[name], "%s twice", name)
		seen[name] = true
	}
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: aws.String("list"), Prefix: &prefix, Delimiter: &delimiter, MaxKeys: &page})
	for pages.HasMorePages() {
		out, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, len(out.Contents)+len(out.CommonPrefixes), int(page))
		for _, o := range out.Contents {
			add(*o.Key)
		}
		for _, p := range out.CommonPrefixes {
			add("PRE " + *p.Prefix)
		}
	}
	return sorted(seen)
}

func listV1(t *testing.T, c *s3.Client, prefix, delimiter string, page int32) []string {
	t.Helper()
	seen := map[string]bool{}
	var marker *string
	for {
		out, err := c.ListObjects(t.Context(), &s3.ListObjectsInput{Bucket: aws.String("list"), Prefix: &prefix, Delimiter: &delimiter, MaxKeys: &page, Marker: marker})
		require.NoError(t, err)
		for _, o := range out.Contents {
			seen[*o.Key] = true
			marker = o.Key
		}
		for _, p := range out.CommonPrefixes {
			seen["PRE "+*p.Prefix] = true
		}
		if !*out.IsTruncated {
			return sorted(seen)
		}
		if out.NextMarker != nil {
			marker = out.NextMarker
		}
	}
}
