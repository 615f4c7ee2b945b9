package awsapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers of every answer.
const (
	headerErrorType = "x-amzn-errortype"
	HeaderRequestID = "x-amzn-requestid"
)

// Refusal is what a caller gets to see of err: the *Error it wraps, or an internal one.
func Refusal(err error) *Error {
	var refusal *Error
	if !errors.As(err, &refusal) {
		return Internal(err)
	}
	if _, known := refusal.kind(); !known {
		return Internal(err)
	}
	return refusal
}

// body is the JSON an error travels as: every member its code declares. Those that are not set are
// null, and left out by lambda-core.
func (e *Error) body() []byte {
	kind, _ := e.kind()
	members := make(map[string]any, len(kind.members))
	for _, name := range kind.members {
		if v := *e.member(name); v != "" {
			members[name] = v
		} else if e.service != coreService {
			members[name] = nil
		}
	}
	if e.capitalMessage {
		members = map[string]any{"Message": e.Message}
	}
	text, err := json.Marshal(members)
	if err != nil {
		return []byte(`{"message":null}`) // strings and nulls always marshal
	}
	return text
}

// member is where a body member is kept.
func (e *Error) member(name string) *string {
	switch name {
	case "message", "Message":
		return &e.Message
	case "resourceId":
		return &e.ResourceID
	case "resourceType":
		return &e.ResourceType
	case "serviceCode":
		return &e.ServiceCode
	case "quotaCode":
		return &e.QuotaCode
	case "Type":
		fault := "User"
		if e.Status() >= http.StatusInternalServerError {
			fault = "Server"
		}
		return &fault
	}
	return new(string)
}

// Write answers a request with e.
func (e *Error) Write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("content-type", "application/json")
	h.Set(headerErrorType, string(e.Code))
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		h.Set("retry-after", strconv.FormatInt(int64(seconds), 10))
	}
	writeBody(w, e.Status(), e.body())
}

func writeBody(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("content-length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone away needs no answer
}

// ReadError makes the *Error a client received out of an answer that is not a success.
func ReadError(status int, header http.Header, body []byte) *Error {
	code, _, _ := strings.Cut(header.Get(headerErrorType), ":")
	e := &Error{Code: ErrorCode(code), RequestID: header.Get(HeaderRequestID), status: status}
	if seconds, err := strconv.Atoi(header.Get("retry-after")); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil || code == "" {
		e.Message = "the server answered HTTP " + strconv.Itoa(status) + ", which is not an answer of the service"
		return e
	}
	for name, v := range members {
		if text, ok := v.(string); ok {
			*e.member(name) = text
		}
	}
	return e
}
