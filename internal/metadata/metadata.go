// Package metadata is the service on 169.254.169.254 that tells the code in a guest where it runs and hands it the credentials of its role.
package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jonboulle/clockwork"
)

// Config says for whom a service is.
type Config struct {
	Region string
	// Role is the ARN of the role that Credentials are of.
	Role string
	// Credentials are nil for code that has no role: then there is no iam/.
	Credentials Credentials
	Clock       clockwork.Clock
	// Log is told once why credentials cannot be had, until they can again or, repeatAfter later, the reason
	// is another.
	Log *slog.Logger
}

// Credentials are those of a role.
type Credentials interface {
	aws.CredentialsProvider
	// Made is when what Retrieve returned last was made.
	Made() time.Time
}

// Service speaks the second version of EC2's instance metadata service (IMDSv2) for one guest. It
// is safe for concurrent use, and does nothing until it is asked.
type Service struct {
	cfg    Config
	tokens tokens
	root   *folder

	mu     sync.Mutex
	failed string    // guarded by mu; why credentials could not be had when that was logged, "" if they can
	logged time.Time // guarded by mu
}

var _ http.Handler = (*Service)(nil)

// New makes a service. Its tokens are valid for it alone.
func New(cfg Config) *Service {
	s := &Service{cfg: cfg, tokens: newTokens(cfg.Clock)}
	s.root = s.tree()
	return s
}

// Header fields of the protocol.
const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	tokenPath   = "/latest/api/token"
)

// ServeHTTP answers one request. Whatever it carries as a body is not read.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "EC2ws")
	w.Header().Set("Content-Type", "text/plain")
	path := r.URL.Path
	switch {
	case path == tokenPath && r.Method == http.MethodPut:
		s.makeToken(w, r)
	case path == tokenPath:
		notAllowed(w, http.MethodPut)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		notAllowed(w, "GET, HEAD")
	case !s.tokens.valid(r.Header.Get(tokenHeader)):
		// Also where nothing is: without a token there is nothing to learn.
		refuse(w, http.StatusUnauthorized)
	default:
		s.read(w, r, path)
	}
}

// makeToken refuses what a proxy passes on, as IMDSv2 does: an open proxy in the guest must not hand out
// credentials. Nor must a browser there, to a page from a host that then gives this address as its own.
func (s *Service) makeToken(w http.ResponseWriter, r *http.Request) {
	if len(r.Header.Values("X-Forwarded-For")) > 0 || !isAddress(r.Host) {
		refuse(w, http.StatusForbidden)
		return
	}
	lifetime, ok := parseLifetime(r.Header.Values(ttlHeader))
	if !ok {
		refuse(w, http.StatusBadRequest)
		return
	}
	w.Header().Set(ttlHeader, r.Header.Get(ttlHeader))
	write(w, s.tokens.make(lifetime))
}

// isAddress tells whether a request was made to an address, not to a name. HTTP/1.0 need not say.
func isAddress(host string) bool {
	if _, err := netip.ParseAddrPort(host); err == nil || host == "" {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// read answers with a file or the names in a folder.
func (s *Service) read(w http.ResponseWriter, r *http.Request, path string) {
	found := s.root.find(path)
	switch found := found.(type) {
	case *folder:
		write(w, found.list())
	case file:
		text, err := found(r.Context())
		if err != nil {
			s.unavailable(w, err)
			return
		}
		write(w, text)
	default:
		refuse(w, http.StatusNotFound)
	}
}

// tree is what there is to read (spec/behaviour.md 11).
func (s *Service) tree() *folder {
	data := newFolder()
	if s.cfg.Credentials != nil {
		iam := data.folder("iam")
		iam.file("info", s.info)
		iam.folder("security-credentials").file(roleName, s.credentials)
	}
	placement := data.folder("placement")
	placement.file("availability-zone-id", text(zoneID(s.cfg.Region)))
	placement.file("region", text(s.cfg.Region))
	data.folder("tags").folder("instance") // empty: microVMs have no tags (spec/behaviour.md 1)
	root := newFolder()
	root.folder("latest").entries["meta-data"] = data
	return root
}

// roleName is what the service calls every role (spec/behaviour.md 11).
const roleName = "execution_role"

func (s *Service) info(ctx context.Context) (string, error) {
	if _, err := s.retrieve(ctx); err != nil {
		return "", err
	}
	return document(struct {
		Code, LastUpdated, InstanceProfileArn, InstanceProfileId string // EC2's names
	}{"Success", stamp(s.cfg.Credentials.Made()), s.cfg.Role, roleName})
}

func (s *Service) credentials(ctx context.Context) (string, error) {
	have, err := s.retrieve(ctx)
	if err != nil {
		return "", err
	}
	return document(struct {
		Code, LastUpdated, Type, AccessKeyId, SecretAccessKey, Token, Expiration string // EC2's names
	}{"Success", stamp(s.cfg.Credentials.Made()), "AWS-HMAC", have.AccessKeyID, have.SecretAccessKey, have.SessionToken, stamp(have.Expires)})
}

// repeatAfter bounds what a guest that asks again and again can have logged: an STS words each of its errors
// differently, with the number of the request.
const repeatAfter = 10 * time.Minute

// retrieve gets the credentials and logs, once, why that fails.
func (s *Service) retrieve(ctx context.Context) (aws.Credentials, error) {
	have, err := s.cfg.Credentials.Retrieve(ctx)
	if ctx.Err() != nil {
		return have, err // the guest has gone: that is no news
	}
	if s.isNews(err) {
		s.cfg.Log.Error("a guest cannot have the credentials of its role", "role", s.cfg.Role, "error", err)
	}
	return have, err
}

// isNews tells whether a failure is to be logged, and remembers that it was.
func (s *Service) isNews(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.failed = ""
		return false
	}
	now, reason := s.cfg.Clock.Now(), err.Error()
	if s.failed != "" && (reason == s.failed || now.Sub(s.logged) < repeatAfter) {
		return false
	}
	s.failed, s.logged = reason, now
	return true
}

// unavailable answers without the cause, which is for the operator.
func (s *Service) unavailable(w http.ResponseWriter, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	write(w, "The credentials of the role are not available at the moment. The reason is in the log of the Dormouse daemon.\n")
}

func document(value any) (string, error) {
	encoded, err := json.MarshalIndent(value, "", "  ")
	return string(encoded), err
}

// stamp writes a time as EC2 does.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func refuse(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	write(w, http.StatusText(status)+"\n")
}

func notAllowed(w http.ResponseWriter, allowed string) {
	w.Header().Set("Allow", allowed)
	refuse(w, http.StatusMethodNotAllowed)
}

// write sends a body; a guest that does not take it has only itself to blame.
func write(w http.ResponseWriter, body string) { _, _ = w.Write([]byte(body)) }

// zoneID makes an availability zone's id of a region's name as AWS does: use1-az1 of us-east-1,
// apne1-az1 of ap-northeast-1. A host is one zone.
func zoneID(region string) string {
	parts := strings.Split(region, "-")
	if len(parts) < 3 {
		return region + "-az1"
	}
	short := parts[0]
	for _, part := range parts[1 : len(parts)-1] {
		short += abbreviate(part)
	}
	return short + parts[len(parts)-1] + "-az1"
}

// abbreviate takes the first letters of the directions in a word: ne of northeast; of another word the first.
func abbreviate(word string) string {
	letters, rest := "", word
	for _, direction := range []string{"north", "south", "east", "west", "central"} {
		if after, ok := strings.CutPrefix(rest, direction); ok {
			letters, rest = letters+direction[:1], after
		}
	}
	if letters == "" && word != "" {
		return word[:1]
	}
	return letters
}
