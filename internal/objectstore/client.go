package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// ClientConfig says where artifacts are: in the embedded server, or else in an external S3.
type ClientConfig struct {
	Embedded *Server // if set, the rest is not used

	Endpoint        string // URL; "" is AWS itself
	Region          string // "" is the one of the AWS configuration of this host
	AccessKeyID     string // "" is the default AWS credential chain
	SecretAccessKey string
	PathStyle       bool // bucket in the path, not in the host name; most S3 look-alikes need it
}

// Client fetches artifacts.
type Client struct {
	read func(ctx context.Context, account, bucket, key string) (io.ReadCloser, int64, error)
}

// NewClient makes a client. For an external S3 it reads the AWS configuration of this host.
func NewClient(ctx context.Context, cfg ClientConfig) (*Client, error) {
	if cfg.Embedded != nil {
		return &Client{read: cfg.Embedded.object}, nil
	}
	var options []func(*config.LoadOptions) error
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	if cfg.AccessKeyID != "" {
		static := credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, cfg.SecretAccessKey, "")
		options = append(options, config.WithCredentialsProvider(static))
	}
	host, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	if host.Region == "" {
		return nil, errors.New("the external S3 needs a region")
	}
	external := s3.NewFromConfig(host, func(o *s3.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = &cfg.Endpoint
		}
		o.UsePathStyle = cfg.PathStyle
		o.DisableLogOutputChecksumValidationSkipped = true // an object without a checksum is nothing to log
	})
	return &Client{read: func(ctx context.Context, _, bucket, key string) (io.ReadCloser, int64, error) {
		return readExternal(ctx, external, bucket, key)
	}}, nil
}

func readExternal(ctx context.Context, client *s3.Client, bucket, key string) (io.ReadCloser, int64, error) {
	object, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, 0, err
	}
	return object.Body, aws.ToInt64(object.ContentLength), nil
}

// Fetch streams s3://bucket/key into w and returns its size in bytes. In the embedded store it
// reads as account; an external S3 sees the configured keys, whatever the account. What fails
// for a documented reason (spec/behaviour.md 4.2) is a *FetchError, also an object of more than
// limit bytes, found before it is read. After any error w may hold part of the object.
func (c *Client) Fetch(ctx context.Context, account, uri string, w io.Writer, limit int64) (int64, error) {
	bucket, key, err := ParseURI(uri)
	if err != nil {
		return 0, &FetchError{Reason: InvalidObject, Message: "The artifact's location is not of the form s3://bucket/key.", Err: err}
	}
	contents, size, err := c.read(ctx, account, bucket, key)
	if err != nil {
		return 0, explain(uri, err)
	}
	defer contents.Close()
	if size > limit {
		return 0, &FetchError{Reason: InvalidObject,
			Message: fmt.Sprintf("The object %s has %d bytes, more than the %d allowed.", uri, size, limit)}
	}
	n, err := io.Copy(w, io.LimitReader(contents, size+1)) // to its end, where the SDK compares the checksum
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return n, fmt.Errorf("copy %s: %w", uri, err)
	}
	return n, nil
}
