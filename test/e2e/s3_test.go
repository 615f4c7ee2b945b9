package e2e

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

// content reads an object through the SDK.
func (h *host) content(t *testing.T, key string) []byte {
	t.Helper()
	var got struct{ Body string }
	h.s3.Call(t, "GetObject", object{"Bucket": bucket, "Key": key}, &got)
	body, err := base64.StdEncoding.DecodeString(got.Body)
	require.NoError(t, err)
	return body
}

func TestObjectsAreStoredWithWhateverChecksumTheSDKSends(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	for _, algorithm := range []string{"CRC32", "CRC32C", "SHA1", "SHA256"} {
		key, body := "checksums/"+algorithm, []byte("checked with "+algorithm)
		h.s3.Call(t, "PutObject", object{"Bucket": bucket, "Key": key, "Body": sdk.Bytes(body), "ChecksumAlgorithm": algorithm}, nil)
		require.Equal(t, body, h.content(t, key))
	}
	var list struct{ Contents []struct{ Key string } }
	h.s3.Call(t, "ListObjectsV2", object{"Bucket": bucket, "Prefix": "checksums/"}, &list)
	require.Len(t, list.Contents, 4)
	h.s3.Call(t, "DeleteObject", object{"Bucket": bucket, "Key": "checksums/SHA1"}, nil)
	refusal := h.s3.Refused(t, "GetObject", object{"Bucket": bucket, "Key": "checksums/SHA1"})
	require.Equal(t, "NoSuchKey", refusal.Name)
}

func TestAMultipartUploadMakesOneObject(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	const key = "multipart"
	parts := [][]byte{bytes.Repeat([]byte("a"), 5<<20), []byte("and the rest")}

	var upload struct{ UploadID string }
	h.s3.Call(t, "CreateMultipartUpload", object{"Bucket": bucket, "Key": key}, &upload)
	var done []object
	for i, part := range parts {
		var stored struct{ ETag string }
		h.s3.Call(t, "UploadPart", object{
			"Bucket": bucket, "Key": key, "UploadId": upload.UploadID, "PartNumber": i + 1, "Body": sdk.Bytes(part),
		}, &stored)
		done = append(done, object{"PartNumber": i + 1, "ETag": stored.ETag})
	}
	h.s3.Call(t, "CompleteMultipartUpload", object{
		"Bucket": bucket, "Key": key, "UploadId": upload.UploadID, "MultipartUpload": object{"Parts": done},
	}, nil)
	require.Equal(t, bytes.Join(parts, nil), h.content(t, key))
}

func TestS3RefusesAWrongSecret(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	wrong := sdk.Credentials{AccessKeyID: h.env["AWS_ACCESS_KEY_ID"], SecretAccessKey: "wrong"}
	refusal := h.s3.With(sdk.Config{Credentials: &wrong}).Refused(t, "ListBuckets", object{})
	require.Equal(t, "SignatureDoesNotMatch", refusal.Name)
	require.Equal(t, http.StatusForbidden, refusal.Status)
}
