package objectstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/sigv4"
)

// keys is a sigv4.Credentials of two accounts; the secret of NAME is NAME-secret.
type keys struct{}

func (keys) Secret(_ context.Context, id string) (secret, account string, err error) {
	switch id {
	case "ALICE", "ALICE2":
		return id + "-secret", "111111111111", nil
	case "BOB":
		return id + "-secret", "222222222222", nil
	case "BROKEN":
		return "", "", errors.New("database is gone")
	}
	return "", "", fmt.Errorf("access key %s: %w", id, sigv4.ErrUnknownKey)
}

type fixture struct {
	*Server
	dir string
	web *httptest.Server
}

func start(t *testing.T, tls bool, change ...func(*ServerConfig)) *fixture {
	t.Helper()
	cfg := ServerConfig{Dir: filepath.Join(t.TempDir(), "s3"), Credentials: keys{}, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	server, err := NewServer(cfg)
	require.NoError(t, err)
	f := &fixture{Server: server, dir: cfg.Dir}
	if tls {
		f.web = httptest.NewTLSServer(server.Handler())
	} else {
		f.web = httptest.NewServer(server.Handler())
	}
	t.Cleanup(func() {
		f.web.Close()
		_ = server.Close()
	})
	return f
}

func (f *fixture) client(accessKey string, change ...func(*s3.Options)) *s3.Client {
	options := s3.Options{
		BaseEndpoint: aws.String(f.web.URL), UsePathStyle: true, Region: "eu-west-1", HTTPClient: f.web.Client(),
		Credentials:                credentials.NewStaticCredentialsProvider(accessKey, accessKey+"-secret", ""),
		Retryer:                    aws.NopRetryer{},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported, // as with a loaded configuration
		DisableLogOutputChecksumValidationSkipped: true,
	}
	return s3.New(options, change...)
}

func (f *fixture) bucket(t *testing.T, c *s3.Client, name string) {
	t.Helper()
	_, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name})
	require.NoError(t, err)
}

func put(t *testing.T, c *s3.Client, bucket, key, content string) {
	t.Helper()
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(content)})
	require.NoError(t, err)
}

func get(t *testing.T, c *s3.Client, bucket, key string) []byte {
	t.Helper()
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	require.NoError(t, err)
	defer out.Body.Close()
	content, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	return content
}

func requireCode(t *testing.T, err error, code string, status int) {
	t.Helper()
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, code, api.ErrorCode())
	var response *awshttp.ResponseError
	require.ErrorAs(t, err, &response)
	require.Equal(t, status, response.HTTPStatusCode())
}

func TestObjectsComeBackAsTheyWereSent(t *testing.T) {
	f := start(t, false)
	c := f.client("ALICE")
	f.bucket(t, c, "first")
	content := make([]byte, 3<<20)
	_, _ = rand.Read(content)
	for _, key := range []string{"code.zip", "a", "a/b", "a//b", "trailing/", "späce + %2F ✓", "../../etc/passwd", strings.Repeat("k", 1024)} {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String("first"), Key: &key, Body: bytes.NewReader(content),
			ContentType: aws.String("application/zip"), Metadata: map[string]string{"who": "me"},
		})
		require.NoError(t, err, key)
		require.Equal(t, content, get(t, c, "first", key), key)
	}
	head, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("first"), Key: aws.String("code.zip"), ChecksumMode: types.ChecksumModeEnabled})
	require.NoError(t, err)
	require.Equal(t, int64(len(content)), *head.ContentLength)
	require.Equal(t, "application/zip", *head.ContentType)
	require.Equal(t, map[string]string{"who": "me"}, head.Metadata)
	require.NotNil(t, head.ChecksumCRC32, "the checksum the client sent is kept")
	require.WithinDuration(t, time.Now(), *head.LastModified, time.Minute)

	part, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("first"), Key: aws.String("a"), Range: aws.String("bytes=10-19")})
	require.NoError(t, err)
	got, _ := io.ReadAll(part.Body)
	require.Equal(t, content[10:20], got)
}

func TestEveryChecksumAndTransferOfTheSDKWorks(t *testing.T) {
	content := bytes.Repeat([]byte("dormouse"), 40_000)
	for _, tls := range []bool{false, true} { // with TLS the SDK sends trailers
		f := start(t, tls)
		c := f.client("ALICE")
		f.bucket(t, c, "sums")
		for _, algorithm := range []types.ChecksumAlgorithm{"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"} {
			key := string(algorithm)
			out, err := c.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String("sums"), Key: &key, Body: bytes.NewReader(content), ChecksumAlgorithm: algorithm})
			require.NoError(t, err)
			require.NotNil(t, map[types.ChecksumAlgorithm]*string{"CRC32": out.ChecksumCRC32, "CRC32C": out.ChecksumCRC32C,
				"CRC64NVME": out.ChecksumCRC64NVME, "SHA1": out.ChecksumSHA1, "SHA256": out.ChecksumSHA256}[algorithm])
			require.Equal(t, content, get(t, c, "sums", key))
		}
		if !tls {
			continue
		}
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{ // of unknown length: a pipe
			Bucket: aws.String("sums"), Key: aws.String("stream"), Body: io.MultiReader(bytes.NewReader(content)),
			ContentLength: aws.Int64(int64(len(content)))})
		require.NoError(t, err)
		require.Equal(t, content, get(t, c, "sums", "stream"))
	}
}

func TestBigFilesGoUpInParts(t *testing.T) {
	f := start(t, true)
	c := f.client("ALICE")
	f.bucket(t, c, "parts")
	content := make([]byte, 2*minPartBytes+12345)
	_, _ = rand.Read(content)
	bucket, key := aws.String("parts"), aws.String("big")
	made, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: "CRC64NVME"})
	require.NoError(t, err)
	var parts []types.CompletedPart
	for n := int32(1); int(n-1)*minPartBytes < len(content); n++ {
		piece := content[int(n-1)*minPartBytes : min(len(content), int(n)*minPartBytes)]
		out, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: made.UploadId, PartNumber: &n,
			Body: bytes.NewReader(piece), ChecksumAlgorithm: "CRC64NVME"})
		require.NoError(t, err)
		require.NotNil(t, out.ChecksumCRC64NVME)
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(n), ChecksumCRC64NVME: out.ChecksumCRC64NVME})
	}
	complete := &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: made.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}, ChecksumType: types.ChecksumTypeFullObject}

	complete.ChecksumCRC64NVME = aws.String("AAAAAAAAAAA=")
	_, err = c.CompleteMultipartUpload(t.Context(), complete)
	requireCode(t, err, "BadDigest", http.StatusBadRequest)

	sum := newChecksum("crc64nvme")
	sum.hash.Write(content)
	complete.ChecksumCRC64NVME = aws.String(sum.value())
	done, err := c.CompleteMultipartUpload(t.Context(), complete)
	require.NoError(t, err)
	require.Equal(t, content, get(t, c, "parts", "big"))
	head, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	require.Equal(t, *done.ETag, *head.ETag)
	requireEmpty(t, filepath.Join(f.dir, "uploads"))
	requireEmpty(t, filepath.Join(f.dir, "incoming"))
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestPartsOutOfOrderOrTooSmallAreRefused(t *testing.T) {
	f := start(t, false)
	c := f.client("ALICE")
	f.bucket(t, c, "parts")
	bucket, key := aws.String("parts"), aws.String("x")
	made, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	var parts []types.CompletedPart
	for n := int32(1); n <= 2; n++ {
		out, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: made.UploadId, PartNumber: &n, Body: strings.NewReader("tiny")})
		require.NoError(t, err)
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(n)})
	}
	complete := func(parts ...types.CompletedPart) error {
		_, err := c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: made.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
		return err
	}
	requireCode(t, complete(parts...), "EntityTooSmall", http.StatusBadRequest)
	requireCode(t, complete(parts[1], parts[0]), "InvalidPartOrder", http.StatusBadRequest)
	requireCode(t, complete(types.CompletedPart{ETag: parts[0].ETag, PartNumber: aws.Int32(9)}), "InvalidPart", http.StatusBadRequest)
	_, err = c.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: made.UploadId})
	require.NoError(t, err)
	requireCode(t, complete(parts[0]), "NoSuchUpload", http.StatusNotFound)
	requireEmpty(t, filepath.Join(f.dir, "uploads"))
}

func TestAccountsAreSeparate(t *testing.T) {
	f := start(t, false)
	alice, alice2, bob := f.client("ALICE"), f.client("ALICE2"), f.client("BOB")
	f.bucket(t, alice, "private")
	f.bucket(t, bob, "bobs")
	put(t, alice, "private", "secret", "hers")
	require.Equal(t, "hers", string(get(t, alice2, "private", "secret")), "another key of the account reads it")
	bucket, key := aws.String("private"), aws.String("secret")

	refused := map[string]func() error{
		"get": func() error {
			_, err := bob.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key})
			return err
		},
		"list": func() error {
			_, err := bob.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: bucket})
			return err
		},
		"put": func() error {
			_, err := bob.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key})
			return err
		},
		"delete": func() error {
			_, err := bob.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: bucket, Key: key})
			return err
		},
		"drop": func() error {
			_, err := bob.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: bucket})
			return err
		},
		"tags": func() error {
			_, err := bob.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: bucket, Key: key})
			return err
		},
		"multi": func() error {
			_, err := bob.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
			return err
		},
		"copy": func() error {
			_, err := bob.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("bobs"), Key: key, CopySource: aws.String("private/secret")})
			return err
		},
	}
	for name, call := range refused {
		t.Run(name, func(t *testing.T) { requireCode(t, call(), "AccessDenied", http.StatusForbidden) })
	}
	_, err := bob.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: bucket})
	requireCode(t, err, "BucketAlreadyExists", http.StatusConflict)
	_, err = alice.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: bucket})
	requireCode(t, err, "BucketAlreadyOwnedByYou", http.StatusConflict)
	list, err := bob.ListBuckets(t.Context(), &s3.ListBucketsInput{})
	require.NoError(t, err)
	require.Len(t, list.Buckets, 1)
	require.Equal(t, "bobs", *list.Buckets[0].Name)

	made, err := alice.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	_, err = bob.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: made.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("x")})
	requireCode(t, err, "NoSuchUpload", http.StatusNotFound)
	require.Equal(t, "hers", string(get(t, alice, "private", "secret")))
}

func TestAWrongSignatureIsRefused(t *testing.T) {
	f := start(t, false)
	c := f.client("ALICE", func(o *s3.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider("ALICE", "wrong", "")
	})
	_, err := c.ListBuckets(t.Context(), &s3.ListBucketsInput{})
	requireCode(t, err, "SignatureDoesNotMatch", http.StatusForbidden)
	_, err = f.client("MALLORY").ListBuckets(t.Context(), &s3.ListBucketsInput{})
	requireCode(t, err, "InvalidAccessKeyId", http.StatusForbidden)
	_, err = f.client("BROKEN").ListBuckets(t.Context(), &s3.ListBucketsInput{})
	requireCode(t, err, "InternalError", http.StatusInternalServerError)
	_, err = f.client("ALICE", func(o *s3.Options) { o.Credentials = aws.AnonymousCredentials{} }).ListBuckets(t.Context(), &s3.ListBucketsInput{})
	requireCode(t, err, "AccessDenied", http.StatusForbidden)
}

func TestPresignedURLsWorkUntilTheyExpire(t *testing.T) {
	f := start(t, false)
	c := f.client("ALICE")
	f.bucket(t, c, "links")
	signer := s3.NewPresignClient(c, s3.WithPresignExpires(time.Minute))
	up, err := signer.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("links"), Key: aws.String("k")})
	require.NoError(t, err)
	request, _ := http.NewRequest(http.MethodPut, up.URL, strings.NewReader("by link"))
	require.Equal(t, http.StatusOK, send(t, request))
	require.Equal(t, "by link", string(get(t, c, "links", "k")))
	down, err := signer.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("links"), Key: aws.String("k")})
	require.NoError(t, err)
	request, _ = http.NewRequest(http.MethodGet, down.URL, nil)
	require.Equal(t, http.StatusOK, send(t, request))
	request, _ = http.NewRequest(http.MethodGet, strings.Replace(down.URL, "links/k", "links/other", 1), nil)
	require.Equal(t, http.StatusForbidden, send(t, request), "for another key")
	request, _ = http.NewRequest(http.MethodGet, strings.Replace(down.URL, "X-Amz-Expires=60", "X-Amz-Expires=600", 1), nil)
	require.Equal(t, http.StatusForbidden, send(t, request), "made to last longer")
}

func send(t *testing.T, r *http.Request) int {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func TestTheBucketMayBeInTheHostName(t *testing.T) {
	f := start(t, false)
	_, port, _ := net.SplitHostPort(f.web.Listener.Addr().String())
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, f.web.Listener.Addr().String())
	}}
	defer transport.CloseIdleConnections()
	c := f.client("ALICE", func(o *s3.Options) {
		o.BaseEndpoint = aws.String("http://localhost:" + port)
		o.UsePathStyle = false
		o.HTTPClient = &http.Client{Transport: transport}
	})
	f.bucket(t, c, "virtual")
	put(t, c, "virtual", "a/b", "x")
	require.Equal(t, "x", string(get(t, f.client("ALICE"), "virtual", "a/b")))
}

func TestTooLargeObjectsAreRefusedBeforeTheyAreRead(t *testing.T) {
	f := start(t, false, func(c *ServerConfig) { c.ObjectLimit = 1000 })
	c := f.client("ALICE")
	f.bucket(t, c, "small")
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("small"), Key: aws.String("k"), Body: strings.NewReader(strings.Repeat("x", 1001))})
	requireCode(t, err, "EntityTooLarge", http.StatusBadRequest)
	put(t, c, "small", "k", strings.Repeat("x", 1000))

	made, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String("small"), Key: aws.String("k")})
	require.NoError(t, err)
	part := func(n int32) error {
		_, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: aws.String("small"), Key: aws.String("k"), UploadId: made.UploadId,
			PartNumber: &n, Body: strings.NewReader(strings.Repeat("x", 600))})
		return err
	}
	require.NoError(t, part(1))
	require.NoError(t, part(1), "the same part again replaces it")
	requireCode(t, part(2), "EntityTooLarge", http.StatusBadRequest)
}

func TestConditionalWritesAndDeletesAndCopies(t *testing.T) {
	f := start(t, false)
	c := f.client("ALICE")
	f.bucket(t, c, "cond")
	bucket, key := aws.String("cond"), aws.String("k")
	put(t, c, "cond", "k", "one")
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("two"), IfNoneMatch: aws.String("*")})
	requireCode(t, err, "PreconditionFailed", http.StatusPreconditionFailed)
	_, err = c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String("cond/k")})
	require.NoError(t, err)
	_, err = c.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: bucket})
	requireCode(t, err, "BucketNotEmpty", http.StatusConflict)
	_, err = c.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: key}, {Key: aws.String("none")}}}})
	require.NoError(t, err)
	require.Equal(t, "one", string(get(t, c, "cond", "copy")), "a copy outlives its source")
	_, err = c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key})
	requireCode(t, err, "NoSuchKey", http.StatusNotFound)
	_, err = c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("copy")})
	require.NoError(t, err)
	_, err = c.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: bucket})
	require.NoError(t, err)
	require.Zero(t, countFiles(t, filepath.Join(f.dir, "blobs")))
}

func countFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	}))
	return n
}

func TestARestartKeepsObjectsAndSweepsWhatACrashLeft(t *testing.T) {
	f := start(t, false)
	c := f.client("ALICE")
	f.bucket(t, c, "kept")
	put(t, c, "kept", "k", "still here")
	require.NoError(t, f.Close())
	orphan := filepath.Join(f.dir, "blobs", "ab", "ab00")
	require.NoError(t, os.MkdirAll(filepath.Dir(orphan), 0o700))
	require.NoError(t, os.WriteFile(orphan, []byte("renamed, row not committed"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, "incoming", "half"), []byte("hal"), 0o600))

	t.Chdir(filepath.Dir(f.dir)) // a relative folder is as good
	again, err := NewServer(ServerConfig{Dir: filepath.Base(f.dir), Credentials: keys{}})
	require.NoError(t, err)
	defer again.Close()
	require.NoFileExists(t, orphan)
	requireEmpty(t, filepath.Join(f.dir, "incoming"))
	f.web.Config.Handler = again.Handler()
	require.Equal(t, "still here", string(get(t, c, "kept", "k")))
}
