package conformance

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/dormouse-dev/dormouse/test/e2e/daemon"
)

const (
	account  = "000000000000" // made by the first start of a daemon
	bucket   = "conformance"
	artifact = "code.zip"
)

// host is a daemon and what its users are told.
type host struct {
	*daemon.Daemon
	env map[string]string // what `dormouse env` makes, and nothing else
}

// startHost starts a daemon with settings in its environment.
func startHost(ctx context.Context, root string, settings ...string) (h *host, err error) {
	h = &host{env: map[string]string{}}
	if h.Daemon, err = daemon.New(ctx, root); err != nil {
		return nil, err
	}
	if err := h.Start(append([]string{"env"}, settings...)...); err != nil {
		return nil, errors.Join(err, h.Remove())
	}
	lines, err := h.Environment(ctx)
	if err != nil {
		return nil, errors.Join(err, h.Remove())
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		h.env[name] = value
	}
	return h, nil
}

// accessKey is a key as `dormouse credentials create` prints it.
type accessKey struct{ AccountID, AccessKeyID, SecretAccessKey string }

// newAccount makes an account with a key.
func (h *host) newAccount(ctx context.Context, name string) (key accessKey, err error) {
	if _, err := h.Command(ctx, "account", "create", name); err != nil {
		return key, err
	}
	text, err := h.Command(ctx, "credentials", "create", "--account", name, "--output", "json")
	if err != nil {
		return key, err
	}
	if err := json.Unmarshal(text, &key); err != nil {
		return key, fmt.Errorf("read the new key: %w", err)
	}
	return key, nil
}

// upload puts a folder into S3 as a code artifact.
func (h *host) upload(ctx context.Context, folder string) error {
	var code bytes.Buffer
	archive := zip.NewWriter(&code)
	if err := errors.Join(archive.AddFS(os.DirFS(folder)), archive.Close()); err != nil {
		return fmt.Errorf("zip %s: %w", folder, err)
	}
	storage := s3.New(s3.Options{
		Region: h.env["AWS_REGION"], BaseEndpoint: aws.String(h.env["AWS_ENDPOINT_URL_S3"]), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(h.env["AWS_ACCESS_KEY_ID"], h.env["AWS_SECRET_ACCESS_KEY"], ""),
	})
	if _, err := storage.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		return fmt.Errorf("make a bucket: %w", err)
	}
	if _, err := storage.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(artifact), Body: bytes.NewReader(code.Bytes())}); err != nil {
		return fmt.Errorf("upload the code: %w", err)
	}
	return nil
}
