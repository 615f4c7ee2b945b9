package objectstore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/signature"
)

// s3Error is an S3 error that gofakes3 has no code for. Its Status is looked up by class, one of
// gofakes3's own codes with the HTTP status wanted; the client sees the Code of ErrorResponse.
type s3Error struct {
	gofakes3.ErrorResponse
	class gofakes3.ErrorCode
}

// ErrorCode is what gofakes3 takes the HTTP status from.
func (e *s3Error) ErrorCode() gofakes3.ErrorCode { return e.class }

func newError(class, code gofakes3.ErrorCode, format string, args ...any) *s3Error {
	return &s3Error{
		ErrorResponse: gofakes3.ErrorResponse{Code: code, Message: fmt.Sprintf(format, args...)},
		class:         class,
	}
}

// Classes: gofakes3 codes that stand for an HTTP status.
const (
	badRequest = gofakes3.ErrInvalidRequest       // 400
	forbidden  = gofakes3.ErrRequestTimeTooSkewed // 403
	conflict   = gofakes3.ErrBucketAlreadyExists  // 409
)

func errAccessDenied() error { return newError(forbidden, "AccessDenied", "Access Denied") }

func errInvalid(format string, args ...any) error {
	return newError(badRequest, gofakes3.ErrInvalidRequest, format, args...)
}

func errTooLarge(limit int64) error {
	return newError(badRequest, gofakes3.ErrEntityTooLarge,
		"Your proposed upload exceeds the maximum allowed object size of %d bytes.", limit)
}

// storageError makes a full disk readable to the client and lets S3 errors through (a body that
// failed its checks); other failures stay internal.
func storageError(doing string, err error) error {
	var refused gofakes3.Error
	if errors.As(err, &refused) {
		return refused
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return newError(gofakes3.ErrInternal, "InsufficientStorage", "The object store has no space left.")
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// writeError answers a request that never reaches gofakes3. Errors that are no S3 errors are
// answered as InternalError; the caller logs them.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	status, code, message := http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again."
	var own *s3Error
	var api *apiError
	switch {
	case errors.As(err, &own):
		status, code, message = own.class.Status(), string(own.Code), own.Message
	case errors.As(err, &api):
		status, code, message = api.HTTPStatusCode, api.Code, api.Description
	}
	id := fmt.Sprintf("%016X", rand.Uint64())
	w.Header().Set("x-amz-request-id", id)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Connection", "close") // the rest of the body is not read
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(signature.EncodeAPIErrorToResponseWithRequestID(
			signature.APIError{Code: code, Description: message}, id))
	}
}

// apiError is a refusal by gofakes3's signature check.
type apiError struct{ signature.APIError }

func (e *apiError) Error() string { return e.Code + ": " + e.Description }

// quotedETag is the entity tag of content with that MD5.
func quotedETag(md5 []byte) string { return `"` + hex.EncodeToString(md5) + `"` }

func unquoteETag(etag string) string { return strings.Trim(etag, `"`) }
