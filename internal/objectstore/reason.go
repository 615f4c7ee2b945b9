package objectstore

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/rclone/gofakes3"
)

// Reason is why an artifact could not be fetched: a documented code of a failed build
// (spec/behaviour.md 4.2).
type Reason string

const (
	AccessDenied            Reason = "S3_ACCESS_DENIED"
	NoSuchKey               Reason = "S3_NO_SUCH_KEY"
	NoSuchBucket            Reason = "S3_NO_SUCH_BUCKET"
	InvalidObject           Reason = "S3_INVALID_OBJECT" // archived, too large or not an object at all
	CrossRegionAccessDenied Reason = "S3_CROSS_REGION_ACCESS_DENIED"
)

// FetchError is a failure that the owner of the artifact can do something about. Message may be
// shown to users; Err is the cause, for operators.
type FetchError struct {
	Reason  Reason
	Message string
	Err     error
}

func (e *FetchError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Reason, e.Message)
	}
	return fmt.Sprintf("%s: %s: %v", e.Reason, e.Message, e.Err)
}

func (e *FetchError) Unwrap() error { return e.Err }

// reasons maps S3 error codes (Amazon S3 API Reference, "Error responses").
var reasons = map[string]Reason{
	"AccessDenied": AccessDenied, "AllAccessDisabled": AccessDenied, "AccountProblem": AccessDenied,
	"InvalidAccessKeyId": AccessDenied, "SignatureDoesNotMatch": AccessDenied, "ExpiredToken": AccessDenied,
	"InvalidToken": AccessDenied, "Forbidden": AccessDenied,
	"NoSuchKey": NoSuchKey, "NotFound": NoSuchKey,
	"NoSuchBucket": NoSuchBucket, "InvalidBucketName": NoSuchBucket,
	"InvalidObjectState": InvalidObject,
	"PermanentRedirect":  CrossRegionAccessDenied, "TemporaryRedirect": CrossRegionAccessDenied,
	"AuthorizationHeaderMalformed":       CrossRegionAccessDenied, // "the region … is wrong; expecting …"
	"IllegalLocationConstraintException": CrossRegionAccessDenied,
}

var messages = map[Reason]string{
	AccessDenied:            "Access to %s was denied.",
	NoSuchKey:               "The object %s does not exist.",
	NoSuchBucket:            "The bucket of %s does not exist.",
	InvalidObject:           "The object %s cannot be read in its present state.",
	CrossRegionAccessDenied: "The bucket of %s is in another region.",
}

// explain gives err its reason, if it has one.
func explain(uri string, err error) error {
	reason, ok := reasonOf(err)
	if !ok {
		return fmt.Errorf("fetch %s: %w", uri, err)
	}
	return &FetchError{Reason: reason, Message: fmt.Sprintf(messages[reason], uri), Err: err}
}

func reasonOf(err error) (Reason, bool) {
	if errors.Is(err, errForeignKey) {
		return AccessDenied, true
	}
	var own *s3Error // before gofakes3.Error, whose code only stands for the status
	var embedded gofakes3.Error
	var remote smithy.APIError
	var response *smithyhttp.ResponseError
	code := ""
	switch {
	case errors.As(err, &own):
		code = string(own.Code)
	case errors.As(err, &embedded):
		code = string(embedded.ErrorCode())
	case errors.As(err, &remote):
		code = remote.ErrorCode()
	}
	if reason, ok := reasons[code]; ok {
		return reason, true
	}
	if errors.As(err, &response) { // an S3 look-alike with codes of its own, or a redirect without a body
		switch response.HTTPStatusCode() {
		case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
			return CrossRegionAccessDenied, true
		case http.StatusForbidden:
			return AccessDenied, true
		}
	}
	return "", false
}
