package objectstore

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/dormouse-dev/dormouse/internal/sigv4"
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
	read func(ctx context.Context, as Reader, bucket, key string) (io.ReadCloser, int64, error)
}

// Reader is who reads an object.
type Reader struct {
	Account string
	// Credentials, if set, decide instead of the account or the configured keys: those of a build role.
	Credentials aws.CredentialsProvider
}

// NewClient makes a client. For an external S3 it reads the AWS configuration of this host.
func NewClient(ctx context.Context, cfg ClientConfig) (*Client, error) {
	if cfg.Embedded != nil {
		return &Client{read: cfg.Embedded.readAs}, nil
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
	return &Client{read: func(ctx context.Context, as Reader, bucket, key string) (io.ReadCloser, int64, error) {
		return readExternal(ctx, external, as, bucket, key)
	}}, nil
}

func readExternal(ctx context.Context, client *s3.Client, as Reader, bucket, key string) (io.ReadCloser, int64, error) {
	object, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key}, func(o *s3.Options) {
		if as.Credentials != nil {
			o.Credentials = as.Credentials
		}
	})
	if err != nil {
		return nil, 0, err
	}
	return object.Body, aws.ToInt64(object.ContentLength), nil
}

// readAs opens an object of the embedded store. Credentials have to be an access key of an account,
// whose objects they open.
func (s *Server) readAs(ctx context.Context, as Reader, bucket, key string) (io.ReadCloser, int64, error) {
	if as.Credentials == nil {
		return s.object(ctx, as.Account, bucket, key)
	}
	have, err := as.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, 0, err
	}
	secret, account, err := s.credentials.Secret(ctx, have.AccessKeyID)
	if err != nil && !errors.Is(err, sigv4.ErrUnknownKey) {
		return nil, 0, fmt.Errorf("look up access key: %w", err)
	}
	if err != nil || have.SessionToken != "" || subtle.ConstantTimeCompare([]byte(secret), []byte(have.SecretAccessKey)) != 1 {
		return nil, 0, errForeignKey
	}
	return s.object(ctx, account, bucket, key)
}

// errForeignKey refuses the credentials of a role.
var errForeignKey = errors.New("the role's credentials are no access key of this S3")

// Fetch streams s3://bucket/key into w and returns its size in bytes. In the embedded store it
// reads as the account; an external S3 sees the configured keys, whatever the account. What fails
// for a documented reason (spec/behaviour.md 4.2) is a *FetchError, also an object of more than
// limit bytes, found before it is read. After any error w may hold part of the object.
func (c *Client) Fetch(ctx context.Context, as Reader, uri string, w io.Writer, limit int64) (int64, error) {
	bucket, key, err := ParseURI(uri)
	if err != nil {
		return 0, &FetchError{Reason: InvalidObject, Message: "The artifact's location is not of the form s3://bucket/key.", Err: err}
	}
	if as.Credentials != nil {
		// First, and apart: an S3 cannot say what is wrong with credentials that are not there. They are cached.
		if _, err := as.Credentials.Retrieve(ctx); err != nil {
			return 0, &FetchError{Reason: AccessDenied, Message: "The credentials of the build role are not available.", Err: err}
		}
	}
	contents, size, err := c.read(ctx, as, bucket, key)
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
