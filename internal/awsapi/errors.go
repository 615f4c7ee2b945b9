package awsapi

import (
	"fmt"
	"net/http"
	"time"
)

// ErrorCode is the name of an error as it travels in the header x-amzn-errortype.
type ErrorCode string

// errorKind is what an error looks like on the wire.
type errorKind struct {
	status  int      // HTTP status
	members []string // members of the body, null when not set
}

// Errors that every AWS service answers before the service model comes into play. Names, states
// and texts are those AWS clients know (spec/api.md 1.4).
const (
	IncompleteSignatureException        ErrorCode = "IncompleteSignatureException"
	InvalidSignatureException           ErrorCode = "InvalidSignatureException"
	MissingAuthenticationTokenException ErrorCode = "MissingAuthenticationTokenException"
	RequestEntityTooLargeException      ErrorCode = "RequestEntityTooLargeException"
	UnknownOperationException           ErrorCode = "UnknownOperationException"
	UnrecognizedClientException         ErrorCode = "UnrecognizedClientException"
)

var commonErrors = map[ErrorCode]errorKind{
	IncompleteSignatureException:        {status: http.StatusForbidden, members: []string{"message"}},
	InvalidSignatureException:           {status: http.StatusForbidden, members: []string{"message"}},
	MissingAuthenticationTokenException: {status: http.StatusForbidden, members: []string{"message"}},
	RequestEntityTooLargeException:      {status: http.StatusRequestEntityTooLarge, members: []string{"message"}},
	UnknownOperationException:           {status: http.StatusNotFound, members: []string{"message"}},
	UnrecognizedClientException:         {status: http.StatusForbidden, members: []string{"message"}},
}

// Error is an error as a client sees it. Message is safe to show to a caller; Cause is for the
// operator: it goes to the log with the request id and never on the wire.
type Error struct {
	Code    ErrorCode
	Message string

	// Details of some errors; those a code does not declare are not sent.
	ResourceID   string
	ResourceType string
	ServiceCode  string
	QuotaCode    string

	RetryAfter time.Duration // header Retry-After in whole seconds, rounded up; 0 = not sent
	Cause      error
	RequestID  string // set on errors a client received

	service        string // whose errors Code is one of, "" = those of lambda-microvms
	status         int    // overrides the status of Code, 0 = as the model says
	capitalMessage bool   // the message travels in the member Message and alone
}

func (e *Error) Error() string {
	text := string(e.Code) + ": " + e.Message
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Status is the HTTP status e travels with.
func (e *Error) Status() int {
	if e.status != 0 {
		return e.status
	}
	if kind, ok := e.kind(); ok {
		return kind.status
	}
	return http.StatusInternalServerError
}

func (e *Error) kind() (errorKind, bool) {
	for _, kinds := range []map[ErrorCode]errorKind{modelledErrors[e.service], modelledErrors[microvmsService], commonErrors} {
		if kind, ok := kinds[e.Code]; ok {
			return kind, true
		}
	}
	return errorKind{}, false
}

// The services behind this API.
const (
	microvmsService = "lambda-microvms"
	coreService     = "lambda-core"
)

// coreNames are the names lambda-core has for the errors that any operation can meet. It has no
// name for AccessDeniedException, which is sent as it is.
var coreNames = map[ErrorCode]ErrorCode{
	ValidationException:           InvalidParameterValueException,
	ConflictException:             ResourceConflictException,
	ServiceQuotaExceededException: NetworkConnectorLimitExceededException,
	ThrottlingException:           TooManyRequestsException,
	InternalServerException:       ServiceException,
}

// of returns e as an error of a service, under the name and in the form it has there.
func (e *Error) of(service string) *Error {
	there := *e
	there.service = service
	if name, ok := coreNames[e.Code]; ok && service == coreService {
		there.Code = name
	}
	return &there
}

// WithCause returns a copy of e that keeps what really happened, for the log.
func (e *Error) WithCause(err error) *Error {
	with := *e
	with.Cause = err
	return &with
}

// WithResource returns a copy of e that names what it is about.
func (e *Error) WithResource(id, kind string) *Error {
	with := *e
	with.ResourceID, with.ResourceType = id, kind
	return &with
}

// WithQuota returns a copy of e that names the quota that was reached.
func (e *Error) WithQuota(service, quota string) *Error {
	with := *e
	with.ServiceCode, with.QuotaCode = service, quota
	return &with
}

// WithRetryAfter returns a copy of e that tells the client when to come back.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	with := *e
	with.RetryAfter = d
	return &with
}

// Errorf makes an error of any code; the format and its arguments become the caller's message.
func Errorf(code ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Validation refuses a request that can never succeed as it is: 400.
func Validation(format string, args ...any) *Error {
	return Errorf(ValidationException, format, args...)
}

// NotFound says that something named in the request does not exist: 404.
func NotFound(format string, args ...any) *Error {
	return Errorf(ResourceNotFoundException, format, args...)
}

// Conflict refuses a request because of the state something is in: 409.
func Conflict(format string, args ...any) *Error {
	return Errorf(ConflictException, format, args...)
}

// QuotaExceeded refuses a request because a limit of the account is reached: 402.
func QuotaExceeded(format string, args ...any) *Error {
	return Errorf(ServiceQuotaExceededException, format, args...)
}

// AccessDenied refuses what the caller may not do: 403. The live front end sends the text of these
// refusals in a member with a capital letter (spec/api.md 1.4).
func AccessDenied(format string, args ...any) *Error {
	e := Errorf(AccessDeniedException, format, args...)
	e.capitalMessage = true
	return e
}

// InsufficientCapacity says that this host is full now: 500, which clients retry.
func InsufficientCapacity(format string, args ...any) *Error {
	return Errorf(InsufficientCapacityException, format, args...)
}

// Throttling tells the client to slow down: 429, which clients retry.
func Throttling(format string, args ...any) *Error {
	return Errorf(ThrottlingException, format, args...)
}

// Internal hides what went wrong from the caller and keeps it for the log: 500, which clients retry.
func Internal(cause error) *Error {
	return &Error{Code: InternalServerException, Message: "The service encountered an internal error. Please try again.", Cause: cause}
}
