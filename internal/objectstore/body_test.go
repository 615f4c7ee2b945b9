package objectstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"
)

// The signer of the worked examples in "Signature Calculations for the Authorization Header:
// Transferring Payload in Multiple Chunks" and "… with Trailing Headers" (Amazon S3 API Reference).
func exampleSigner(seed string) *signer {
	return &signer{
		secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", time: "20130524T000000Z",
		scope: "20130524/us-east-1/s3/aws4_request", signature: seed,
	}
}

const (
	exampleChunks = "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n%s\r\n" +
		"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n%s\r\n" +
		"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
	exampleTrailer = "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n%s\r\n" +
		"400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n%s\r\n" +
		"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
		"x-amz-checksum-crc32c:sOO8/Q==\r\n" +
		"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
)

func TestTheWorkedExamplesOfSignedChunksVerify(t *testing.T) {
	long, short := strings.Repeat("a", 64<<10), strings.Repeat("a", 1<<10)
	for name, example := range map[string]struct {
		form, seed, payload, trailer string
	}{
		"chunks":  {exampleChunks, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", signedChunks, ""},
		"trailer": {exampleTrailer, "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", signedChunkTrails, "x-amz-checksum-crc32c"},
	} {
		t.Run(name, func(t *testing.T) {
			wire := fmt.Sprintf(example.form, long, short)
			data, err := readBody(t, exampleSigner(example.seed), example.payload, example.trailer, len(long)+len(short), wire)
			require.NoError(t, err)
			require.Equal(t, long+short, data)
			for _, tamper := range []struct{ what, wire, code string }{
				{"a byte", strings.Replace(wire, "aaaa", "aaba", 1), "SignatureDoesNotMatch"},
				{"a chunk signature", strings.Replace(wire, "400;chunk-signature=", "400;chunk-signature=0", 1), "SignatureDoesNotMatch"},
				{"the last signature", strings.Replace(wire, "\r\n0;chunk-signature=", "\r\n0;chunk-signature=00", 1), "SignatureDoesNotMatch"},
				{"no signature", strings.Replace(wire, "400;chunk-signature=", "400;", 1), "InvalidChunkSizeError"},
				{"the trailer", strings.Replace(wire, "crc32c:s", "crc32c:t", 1), "SignatureDoesNotMatch"},
				{"a further trailer", strings.Replace(wire, "x-amz-trailer-sig", "x-amz-other:1\r\nx-amz-trailer-sig", 1), "SignatureDoesNotMatch"},
			} {
				if tamper.wire == wire {
					continue // the example without a trailer
				}
				_, err := readBody(t, exampleSigner(example.seed), example.payload, example.trailer, len(long)+len(short), tamper.wire)
				var refused *s3Error
				require.ErrorAs(t, err, &refused, tamper.what)
				require.Equal(t, tamper.code, string(refused.Code), tamper.what)
			}
		})
	}
}

// readBody reads an aws-chunked PUT through a body, byte for byte as the network might deliver it.
func readBody(t testing.TB, s *signer, payload, trailer string, length int, wire string) (string, error) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPut, "/b/k", nil)
	r.Header.Set("X-Amz-Content-Sha256", payload)
	r.Header.Set("X-Amz-Decoded-Content-Length", strconv.Itoa(length))
	if trailer != "" {
		r.Header.Set("X-Amz-Trailer", trailer)
	}
	b, err := openBody(r, s, iotest.HalfReader(strings.NewReader(wire)), 1<<30)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(b)
	return string(data), err
}

func TestTheLastByteIsHeldBackUntilTheWholeIsVerified(t *testing.T) {
	good := "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n"
	for _, c := range []struct {
		what, wire, code string
		length           int
	}{
		{"right", good, "", 3},
		{"one of many chunks", "1\r\na\r\n2\r\nbc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n", "", 3},
		{"wrong checksum", strings.Replace(good, "abc", "abd", 1), "BadDigest", 3},
		{"checksum no base64", strings.Replace(good, "NSRBwg==", "!", 1), "InvalidRequest", 3},
		{"no trailer", "3\r\nabc\r\n0\r\n\r\n", "InvalidRequest", 3},
		{"too short", good, "IncompleteBody", 4},
		{"too long", good, "IncompleteBody", 2},
		{"not empty", good, "IncompleteBody", 0},
		{"cut in the data", "3\r\nab", "IncompleteBody", 3},
		{"cut before the end", "3\r\nabc\r\n", "IncompleteBody", 3},
		{"no line end behind data", "3\r\nabcd0\r\n\r\n", "InvalidChunkSizeError", 3},
		{"negative size", "-3\r\nabc\r\n", "InvalidChunkSizeError", 3},
		{"no size", "\r\nabc", "InvalidChunkSizeError", 3},
		{"endless size line", strings.Repeat("0", 1<<20), "InvalidChunkSizeError", 3},
		{"endless trailers", "3\r\nabc\r\n0\r\n" + strings.Repeat("x-amz-a:b\r\n", 1<<16), "InvalidChunkSizeError", 3},
	} {
		t.Run(c.what, func(t *testing.T) {
			data, err := readBody(t, &signer{}, unsignedTrailer, "x-amz-checksum-crc32", c.length, c.wire)
			if c.code == "" {
				require.NoError(t, err)
				require.Equal(t, "abc", data)
				return
			}
			var refused *s3Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.code, string(refused.Code))
			require.NotEqual(t, "abc", data, "the last byte got out")
		})
	}
}

// signed sends a request whose headers say one thing about the body and whose body is another.
func (f *fixture) signed(t *testing.T, method, path, payload string, headers map[string]string, body []byte) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, f.web.URL+path, bytes.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("X-Amz-Content-Sha256", payload)
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	err = signer.SignHTTP(t.Context(), aws.Credentials{AccessKeyID: "ALICE", SecretAccessKey: "ALICE-secret"}, r, payload, "s3", "us-east-1", time.Now())
	require.NoError(t, err)
	response, err := f.web.Client().Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	_, code, _ := strings.Cut(string(text), "<Code>")
	code, _, _ = strings.Cut(code, "</Code>")
	return response.StatusCode, code
}

func TestCorruptedUploadsAreRefusedAndNotStored(t *testing.T) {
	f := start(t, false)
	c := f.client("ALICE")
	f.bucket(t, c, "safe")
	put(t, c, "safe", "k", "the first")
	sum := sha256.Sum256([]byte("meant"))
	digest := hex.EncodeToString(sum[:])
	for _, a := range []struct {
		what, payload string
		headers       map[string]string
		body, code    string
		status        int
	}{
		{"signed digest", digest, nil, "other", "XAmzContentSHA256Mismatch", 400},
		{"checksum header", unsignedPayload, map[string]string{"X-Amz-Checksum-Crc32": "AAAAAA=="}, "other", "BadDigest", 400},
		{"MD5 header", unsignedPayload, map[string]string{"Content-Md5": "XrY7u+Ae7tCTyyK7j1rNww=="}, "other", "BadDigest", 400},
		{"two checksums", unsignedPayload, map[string]string{"X-Amz-Checksum-Crc32": "AAAAAA==", "X-Amz-Checksum-Crc32c": "AAAAAA=="}, "x", "InvalidRequest", 400},
		{"unknown checksum", unsignedPayload, map[string]string{"X-Amz-Checksum-Md4": "AAAAAA=="}, "x", "InvalidRequest", 400},
		{"unsigned trailer", unsignedTrailer, map[string]string{"X-Amz-Trailer": "x-amz-checksum-crc64nvme", "X-Amz-Decoded-Content-Length": "1"},
			"1\r\nx\r\n0\r\nx-amz-checksum-crc64nvme:AAAAAAAAAAA=\r\n\r\n", "BadDigest", 400},
		{"empty with a trailer", unsignedTrailer, map[string]string{"X-Amz-Trailer": "x-amz-checksum-crc32", "X-Amz-Decoded-Content-Length": "0"},
			"0\r\nx-amz-checksum-crc32:AAAAAQ==\r\n\r\n", "BadDigest", 400},
		{"forged chunk", signedChunks, map[string]string{"X-Amz-Decoded-Content-Length": "1"},
			"1;chunk-signature=" + digest + "\r\nx\r\n0;chunk-signature=" + digest + "\r\n\r\n", "SignatureDoesNotMatch", 403},
		{"no decoded length", signedChunks, nil, "0\r\n\r\n", "MissingContentLength", 411},
		{"elliptic curve signatures", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", nil, "x", "InvalidArgument", 400},
		{"form upload", unsignedPayload, nil, "x", "NotImplemented", 501},
	} {
		t.Run(a.what, func(t *testing.T) {
			method, path := http.MethodPut, "/safe/k"
			if a.what == "form upload" {
				method, path = http.MethodPost, "/safe"
			}
			status, code := f.signed(t, method, path, a.payload, a.headers, []byte(a.body))
			require.Equal(t, a.code, code)
			require.Equal(t, a.status, status)
		})
	}
	require.Equal(t, "the first", string(get(t, c, "safe", "k")))
	require.Equal(t, 1, countFiles(t, f.dir+"/blobs"))
	requireEmpty(t, f.dir+"/incoming")
}

func TestCorruptedPartsAreRefused(t *testing.T) {
	f := start(t, false)
	f.bucket(t, f.client("ALICE"), "safe")
	status, _ := f.signed(t, http.MethodPost, "/safe/k?uploads=", unsignedPayload, nil, nil)
	require.Equal(t, http.StatusOK, status)
	for id := range f.backend.uploads.byID {
		path := "/safe/k?partNumber=1&uploadId=" + string(id)
		_, code := f.signed(t, http.MethodPut, path, unsignedPayload, map[string]string{"X-Amz-Checksum-Crc32": "AAAAAA=="}, []byte("x"))
		require.Equal(t, "BadDigest", code)
		requireEmpty(t, f.backend.uploads.byID[id].dir)
	}
}

func FuzzChunkedReader(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n"))
	f.Add([]byte(fmt.Sprintf(exampleTrailer, "a", "b")))
	f.Add([]byte("ffffffffffffffff\r\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		for _, s := range []*chunkSigner{nil, newChunkSigner(exampleSigner(""), true)} {
			data, err := io.ReadAll(newChunkedReader(bytes.NewReader(wire), s))
			if len(data) > len(wire) {
				t.Fatalf("%d bytes out of %d", len(data), len(wire))
			}
			if s != nil && err == nil {
				t.Fatal("a body that nobody signed verified")
			}
			if err != nil && errors.Is(err, io.EOF) {
				t.Fatal("an error that reads as the end of the data")
			}
		}
	})
}

func FuzzParseURI(f *testing.F) {
	f.Add("s3://bucket/key")
	f.Add("s3://bucket/")
	f.Fuzz(func(t *testing.T, uri string) {
		bucket, key, err := ParseURI(uri)
		if err == nil && uri != "s3://"+bucket+"/"+key {
			t.Fatalf("%q became %q %q", uri, bucket, key)
		}
	})
}
