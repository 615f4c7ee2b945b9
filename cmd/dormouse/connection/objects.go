package connection

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
)

// Objects is the S3 that images are built from.
type Objects struct{ s3 *s3.Client }

// ErrNoS3 says that the settings name no S3.
var ErrNoS3 = errors.New("the daemon serves no S3 of its own; set AWS_ENDPOINT_URL_S3 to the one it was started with (--s3-endpoint), and AWS_ENDPOINT_URL_LAMBDA_MICROVMS and the keys for both")

// Objects opens the S3 of the settings.
func (c *Connection) Objects() (*Objects, error) {
	if c.S3 == "" {
		return nil, ErrNoS3
	}
	return &Objects{s3.New(s3.Options{
		BaseEndpoint: &c.S3, UsePathStyle: true, Region: c.Region,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, ""),
		// The signature covers the SHA-256 of the body.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})}, nil
}

// MakeBucket makes a bucket, or is content with one that the caller has already.
func (o *Objects) MakeBucket(ctx context.Context, bucket string) error {
	_, err := o.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
	var mine *types.BucketAlreadyOwnedByYou
	var taken *types.BucketAlreadyExists
	switch {
	case errors.As(err, &mine):
		return nil
	case errors.As(err, &taken):
		return fmt.Errorf("the bucket %s belongs to another account: choose one with --bucket", bucket)
	case err != nil:
		return fmt.Errorf("make the bucket %s: %w", bucket, err)
	}
	return nil
}

// Put uploads size bytes, whose SHA-256 is known, so that they are read only once.
func (o *Objects) Put(ctx context.Context, bucket, key string, body io.ReadSeeker, size int64, sha256 string) error {
	_, err := o.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: body, ContentLength: &size},
		s3.WithAPIOptions(func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("KnownPayloadHash",
				func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
					return next.HandleInitialize(v4.SetPayloadHash(ctx, sha256), in)
				}), middleware.Before)
		}))
	if err != nil {
		return fmt.Errorf("upload to s3://%s/%s: %w", bucket, key, err)
	}
	return nil
}

// Prune deletes all but the newest few of the objects that are ours, below a prefix.
func (o *Objects) Prune(ctx context.Context, bucket, prefix string, keep int, ours func(key string) bool) error {
	var found []types.Object
	pages := s3.NewListObjectsV2Paginator(o.s3, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list s3://%s/%s: %w", bucket, prefix, err)
		}
		for _, object := range page.Contents {
			if ours(aws.ToString(object.Key)) {
				found = append(found, object)
			}
		}
	}
	slices.SortFunc(found, func(a, b types.Object) int { return aws.ToTime(b.LastModified).Compare(aws.ToTime(a.LastModified)) })
	for _, object := range found[min(keep, len(found)):] {
		if _, err := o.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: object.Key}); err != nil {
			return fmt.Errorf("delete s3://%s/%s: %w", bucket, aws.ToString(object.Key), err)
		}
	}
	return nil
}
