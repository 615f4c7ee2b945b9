package extension

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/pagetoken"
	"github.com/dormouse-dev/dormouse/internal/sigv4"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// MicroVMs knows more of microVMs than their records tell. All methods may be asked about any id.
type MicroVMs interface {
	Details(id string) (microvm.Details, bool)
	// Listen has the app's output kept as soon as it comes, until stop is called.
	Listen(id string) (stop func())
	// CatchUp returns when what the app has written by now was kept.
	CatchUp(ctx context.Context, id string)
	// Look brings the logs of console and VMM up to date.
	Look(ctx context.Context, id string)
}

// Config is what a Handler works with. All members are required.
type Config struct {
	Store    *store.Store
	MicroVMs MicroVMs
	Logs     *logfile.Folder             // of microVMs
	BuildLog func(buildID string) string // where the log of a build is
	Auth     *awsapi.Authenticator
	Limiter  *awsapi.Limiter
	Pages    *pagetoken.Codec
	Clock    clockwork.Clock
	Log      *slog.Logger
	Stopping <-chan struct{} // closed when the daemon is about to end: so do logs that are followed
}

// operations are the names under which rates of calls are configured, by route.
var operations = map[string]string{
	"logs": "ExtensionLogs", "events": "ExtensionEvents", "microvms/": "ExtensionMicrovm", "builds/": "ExtensionBuild",
}

// Operations are the operations whose rates can be bounded.
var Operations = slices.Sorted(maps.Values(operations))

// Handler serves the extension API. Like awsapi.Handler it routes on the path as it was sent.
type Handler struct {
	Config
	streams *streams
}

var _ http.Handler = (*Handler)(nil)

// NewHandler serves what c has.
func NewHandler(c Config) *Handler { return &Handler{c, newStreams()} }

// Beside serves requests for the extension API, and leaves all others to next.
func (h *Handler) Beside(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path, _ := sigv4.Target(r); strings.HasPrefix(path, Prefix) {
			h.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := h.Clock.Now()
	requestID := uuid.NewString()
	w.Header().Set(awsapi.HeaderRequestID, requestID)
	caller, err := h.serve(w, r)
	attributes := []any{"path", r.URL.Path, "account", caller.AccountID, "requestId", requestID, "took", h.Clock.Since(began)}
	if err == nil {
		h.Log.DebugContext(r.Context(), "extension call", attributes...)
		return
	}
	refusal := awsapi.Refusal(err)
	attributes = append(attributes, "error", err)
	if refusal.Status() >= http.StatusInternalServerError && r.Context().Err() == nil {
		h.Log.ErrorContext(r.Context(), "extension call failed", attributes...)
	} else {
		h.Log.DebugContext(r.Context(), "extension call refused", attributes...)
	}
	refusal.Write(w)
}

// serve answers a request, or returns why nothing was answered.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) (awsapi.Caller, error) {
	c, _, err := h.Auth.Authenticate(w, r)
	if err != nil {
		return c, err
	}
	path, query := sigv4.Target(r)
	if r.Method != http.MethodGet {
		return c, unknown()
	}
	route, id, found := strings.Cut(strings.TrimPrefix(path, Prefix), "/")
	if found {
		route += "/"
	}
	if id, err = url.PathUnescape(id); err != nil {
		return c, awsapi.Validation("The path is malformed.").WithCause(err)
	}
	operation, known := operations[route]
	if !known {
		return c, unknown()
	}
	if err := h.Limiter.Admit(c.AccountID, operation); err != nil {
		return c, err
	}
	var out any
	switch route {
	case "logs":
		return c, h.logs(w, r, c, query)
	case "events":
		out, err = h.events(r.Context(), c, query)
	case "microvms/":
		out, err = h.microVM(r.Context(), c, id, query)
	case "builds/":
		out, err = h.build(r.Context(), c, id, query)
	}
	if err != nil {
		return c, err
	}
	return c, answer(w, out)
}

func unknown() error {
	return awsapi.Errorf(awsapi.UnknownOperationException, "No operation of the extension API has this method and path.")
}

// answer writes a JSON answer.
func answer(w http.ResponseWriter, out any) error {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		return err
	}
	w.Header().Set("content-type", "application/json")
	w.Header().Set("content-length", strconv.Itoa(body.Len()))
	_, _ = w.Write(body.Bytes()) // a client that has gone away needs no answer
	return nil
}

// at is the wire form of a time that is zero when it is absent.
func at(t time.Time) *awsapi.Timestamp {
	if t.IsZero() {
		return nil
	}
	wire := awsapi.At(t)
	return &wire
}

// nonzero is the wire form of a number that is zero when it is absent.
func nonzero[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
