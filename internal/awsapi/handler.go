package awsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/sigv4"
)

// MaxBody bounds the body of a request, in bytes: several times an image with all its 50
// environment variables full.
const MaxBody = 1 << 20

// Handler serves the API. It routes on the path as it was sent, so it must not stand behind
// http.ServeMux, which rewrites paths.
type Handler struct {
	backend Backend
	auth    *Authenticator
	log     *slog.Logger
	clock   clockwork.Clock
	limiter *Limiter
	observe func(Call)
}

// Call is a request to the API after its end, for whoever counts or traces calls.
type Call struct {
	RequestID string
	Operation string // "unknown" where the request is for none, or its caller is not known
	AccountID string // "" where that is not known
	Status    int
	Code      ErrorCode // "" where it succeeded
	Began     time.Time
	Ended     time.Time
}

// Observe has a function told of each call after its end. It is to be called before the first one.
func (h *Handler) Observe(observe func(Call)) { h.observe = observe }

var _ http.Handler = (*Handler)(nil)

// NewHandler serves the operations of backend to callers that auth knows, as often as limiter admits.
func NewHandler(backend Backend, auth *Authenticator, limiter *Limiter, log *slog.Logger, clock clockwork.Clock) *Handler {
	return &Handler{backend: backend, auth: auth, limiter: limiter, log: log, clock: clock}
}

// exchange is one request on its way to an answer.
type exchange struct {
	operation string
	service   string // of the operation, "" until it is known
	caller    Caller
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{operation: "unknown", caller: Caller{RequestID: uuid.NewString()}}
	began := h.clock.Now()
	w.Header().Set(HeaderRequestID, x.caller.RequestID)

	var code ErrorCode
	status, body, err := h.serve(w, r, x)
	switch {
	case err != nil:
		refusal := h.refusal(r.Context(), err, x)
		refusal.Write(w)
		status, code = refusal.Status(), refusal.Code
	case status == http.StatusNoContent:
		w.WriteHeader(status)
	default:
		w.Header().Set("content-type", "application/json")
		writeBody(w, status, body)
	}
	if h.observe != nil {
		h.observe(Call{x.caller.RequestID, x.operation, x.caller.AccountID, status, code, began, h.clock.Now()})
	}
	h.log.DebugContext(r.Context(), "api call", "operation", x.operation, "status", status,
		"account", x.caller.AccountID, "requestId", x.caller.RequestID, "took", h.clock.Since(began))
}

// serve returns status and body of a success.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, x *exchange) (int, []byte, error) {
	caller, body, err := h.auth.Authenticate(w, r)
	if err != nil {
		return 0, nil, err
	}
	caller.RequestID = x.caller.RequestID
	x.caller = caller

	rawPath, rawQuery := sigv4.Target(r)
	op, labels, allowed, err := findRoute(r.Method, rawPath)
	if err != nil {
		if allowed != nil {
			w.Header().Set("allow", strings.Join(allowed, ", "))
		}
		return 0, nil, err
	}
	x.operation, x.service = op.Name, op.Service
	if err := h.limiter.Admit(caller.AccountID, op.Name); err != nil {
		return 0, nil, err
	}
	out, err := h.call(WithCaller(r.Context(), caller), op, func(in any) error {
		return op.decode(labels, rawQuery, body, in)
	})
	if err != nil {
		return 0, nil, err
	}
	answer, err := encode(out)
	return op.Status, answer, err
}

// call runs an operation of the backend; a panic in it becomes an error.
func (h *Handler) call(ctx context.Context, op *Operation, bind func(any) error) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return op.invoke(ctx, h.backend, bind)
}

// refusal is the error a client gets to see, and logs what it does not get to see.
func (h *Handler) refusal(ctx context.Context, err error, x *exchange) *Error {
	attributes := []any{"operation", x.operation, "account", x.caller.AccountID, "requestId", x.caller.RequestID, "error", err}
	refusal := Refusal(err).of(x.service)
	switch {
	case ctx.Err() != nil:
		h.log.DebugContext(ctx, "api client went away", attributes...)
	case refusal.Status() >= http.StatusInternalServerError:
		h.log.ErrorContext(ctx, "api call failed", attributes...)
	case refusal.Cause != nil:
		h.log.InfoContext(ctx, "api call refused", attributes...)
	}
	return refusal
}

func tooLarge() *Error {
	return Errorf(RequestEntityTooLargeException, "Request must be smaller than %d bytes.", MaxBody)
}

// readBody reads the body of a request up to MaxBody bytes.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return nil, tooLarge()
	}
	if err != nil {
		return nil, Validation("The request body could not be read.").WithCause(err)
	}
	return body, nil
}

// encode writes an answer. HTML characters stay as they are.
func encode(out any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
