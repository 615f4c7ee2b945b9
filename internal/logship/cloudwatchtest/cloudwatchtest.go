// Package cloudwatchtest is a small server that speaks the protocol of CloudWatch Logs, for tests: it checks signatures and the limits of batches.
package cloudwatchtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/sigv4"
)

// Key and Secret are the access key that the server knows.
const (
	Key    = "AKIDLOGS"
	Secret = "logs-secret"
)

// Event is one event of a stream.
type Event struct {
	Timestamp int64  `json:"timestamp"` // Unix milliseconds
	Message   string `json:"message"`
}

// Server is the service. Its zero value is not ready; see New.
type Server struct {
	verifier sigv4.Verifier

	mu      sync.Mutex // guards all below
	groups  map[string]map[string][]Event
	calls   map[string]int
	away    bool
	refused []string // what was wrong with requests that the SDK or its user must never send
	reject  bool
}

// New makes a service without groups.
func New() *Server {
	return &Server{
		verifier: sigv4.Verifier{Credentials: oneKey{}, Service: "logs", Clock: clockwork.NewRealClock()},
		groups:   map[string]map[string][]Event{}, calls: map[string]int{},
	}
}

type oneKey struct{}

func (oneKey) Secret(_ context.Context, key string) (secret, account string, err error) {
	if key != Key {
		return "", "", sigv4.ErrUnknownKey
	}
	return Secret, "000000000000", nil
}

// SetAway makes the service answer 503 to everything, or serve again.
func (s *Server) SetAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// RejectAll makes PutLogEvents refuse what it gets as invalid.
func (s *Server) RejectAll(reject bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reject = reject
}

// Events are the events of a stream, in the order in which they came.
func (s *Server) Events(group, stream string) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Event(nil), s.groups[group][stream]...)
}

// Streams are the names of a group's streams.
func (s *Server) Streams(group string) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.groups[group] {
		names = append(names, name)
	}
	return names
}

// Calls tells how often an operation was called, whatever came of it.
func (s *Server) Calls(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[operation]
}

// Mistakes are what was wrong with requests.
func (s *Server) Mistakes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.refused...)
}

// request has the members of all three operations.
type request struct {
	LogGroupName  string  `json:"logGroupName"`
	LogStreamName string  `json:"logStreamName"`
	LogEvents     []Event `json:"logEvents"`
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "Logs_20140328.")
	s.calls[operation]++
	switch {
	case s.away:
		fail(w, http.StatusServiceUnavailable, "ServiceUnavailableException", "away")
		return
	case !ok || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-amz-json-1.1":
		s.wrong(w, "not a request of the protocol")
		return
	}
	if err := s.proved(r, body); err != nil {
		s.refused = append(s.refused, err.Error())
		fail(w, http.StatusForbidden, "AccessDeniedException", err.Error())
		return
	}
	var in request
	if err := json.Unmarshal(body, &in); err != nil || !utf8.Valid(body) {
		s.wrong(w, "no JSON")
		return
	}
	s.serve(w, operation, in)
}

func (s *Server) proved(r *http.Request, body []byte) error {
	claim, err := s.verifier.Claim(r)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(body)
	return claim.Prove(r, hex.EncodeToString(digest[:]))
}

// serve runs an operation. The caller holds mu.
func (s *Server) serve(w http.ResponseWriter, operation string, in request) {
	group, known := s.groups[in.LogGroupName]
	_, has := group[in.LogStreamName]
	switch operation {
	case "CreateLogGroup":
		if known {
			fail(w, http.StatusBadRequest, "ResourceAlreadyExistsException", "The specified log group already exists")
			return
		}
		s.groups[in.LogGroupName] = map[string][]Event{}
		answer(w, struct{}{})
	case "CreateLogStream":
		switch {
		case in.LogStreamName == "" || strings.ContainsAny(in.LogStreamName, ":*"):
			fail(w, http.StatusBadRequest, "InvalidParameterException", "no name of a log stream")
		case !known:
			fail(w, http.StatusBadRequest, "ResourceNotFoundException", "The specified log group does not exist.")
		case has:
			fail(w, http.StatusBadRequest, "ResourceAlreadyExistsException", "The specified log stream already exists")
		default:
			group[in.LogStreamName] = []Event{}
			answer(w, struct{}{})
		}
	case "PutLogEvents":
		if !has {
			fail(w, http.StatusBadRequest, "ResourceNotFoundException", "The specified log stream does not exist.")
			return
		}
		if s.reject {
			fail(w, http.StatusBadRequest, "InvalidParameterException", "told to")
			return
		}
		if wrong := checkBatch(in.LogEvents); wrong != "" {
			s.wrong(w, wrong)
			return
		}
		group[in.LogStreamName] = append(group[in.LogStreamName], in.LogEvents...)
		answer(w, map[string]string{"nextSequenceToken": fmt.Sprint(len(group[in.LogStreamName]))})
	default:
		s.wrong(w, "unknown operation "+operation)
	}
}

// checkBatch says what is wrong with a batch, by the rules of the service.
func checkBatch(events []Event) string {
	if len(events) == 0 || len(events) > 10_000 {
		return fmt.Sprintf("a batch of %d events", len(events))
	}
	size, last := 0, events[0].Timestamp
	for _, e := range events {
		const most = 256 << 10
		if e.Message == "" || len(e.Message)+26 > most {
			return fmt.Sprintf("an event of %d bytes", len(e.Message))
		}
		if e.Timestamp < last {
			return "events out of order"
		}
		last = e.Timestamp
		size += len(e.Message) + 26
	}
	if size > 1<<20 {
		return fmt.Sprintf("a batch of %d bytes", size)
	}
	if last-events[0].Timestamp > 24*60*60*1000 {
		return "a batch of more than 24 hours"
	}
	return ""
}

// wrong refuses a request that should never have been sent. The caller holds mu.
func (s *Server) wrong(w http.ResponseWriter, what string) {
	s.refused = append(s.refused, what)
	fail(w, http.StatusBadRequest, "InvalidParameterException", what)
}

func answer(w http.ResponseWriter, out any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(out)
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}
