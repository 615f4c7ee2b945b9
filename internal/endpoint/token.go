package endpoint

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jonboulle/clockwork"
)

const (
	// maxToken bounds a token in characters; the API allows no more (spec/api.md, authToken values).
	maxToken = 8000
	// verifiedTokens is how many tokens are remembered as genuine, about 200 bytes each.
	verifiedTokens = 4096
)

var (
	// ErrTokenTooLong means that the allowed ports of a token are too scattered to fit in one.
	ErrTokenTooLong = errors.New("allowed ports do not fit in a token")

	errNotAToken    = errors.New("not a compact JWE")
	errTokenRefused = errors.New("token is forged, expired or for something else")
)

// purpose is what a token opens.
type purpose string

const (
	purposeProxy purpose = "proxy" // HTTP to the ports it names
	purposeShell purpose = "shell" // a shell, and no port
)

// claims is the content of a token. Times are Unix seconds.
type claims struct {
	MicroVM  string      `json:"vm"`
	Ports    []PortRange `json:"ports,omitempty"` // of a proxy token
	IssuedAt int64       `json:"iat"`
	Expires  int64       `json:"exp"`
	Purpose  purpose     `json:"use"`
}

func (p purpose) known() bool { return p == purposeProxy || p == purposeShell }

// Tokens makes and checks endpoint tokens (spec/behaviour.md 8): compact JWE, dir + A256GCM, bound
// to one microVM. It is safe for concurrent use.
type Tokens struct {
	keys     Keys
	clock    clockwork.Clock
	ring     atomic.Pointer[keyring]
	verified *lru.Cache[[sha256.Size]byte, *claims]
}

// OpenTokens loads the keys and makes the first one where there is none.
func OpenTokens(ctx context.Context, keys Keys, clock clockwork.Clock) (*Tokens, error) {
	loaded, err := keys.LoadTokenKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("load token keys: %w", err)
	}
	slices.SortFunc(loaded, func(a, b Key) int { return a.CreatedAt.Compare(b.CreatedAt) })
	verified, err := lru.New[[sha256.Size]byte, *claims](verifiedTokens)
	if err != nil {
		return nil, fmt.Errorf("make token cache: %w", err)
	}
	t := &Tokens{keys: keys, clock: clock, verified: verified}
	ring, err := newKeyring(loaded)
	if err != nil {
		return nil, err
	}
	t.ring.Store(ring)
	return t, t.Rotate(ctx)
}

// Rotate replaces the current key when it is a day old and forgets keys no living token needs.
// Server.Serve calls it every hour; calls must not overlap.
func (t *Tokens) Rotate(ctx context.Context) error {
	keys, changed, err := rotated(t.ring.Load().keys, t.clock.Now())
	if err != nil || !changed {
		return err
	}
	// Saved before use: no token may exist that a restarted daemon could not read.
	if err := t.keys.SaveTokenKeys(ctx, keys); err != nil {
		return fmt.Errorf("save token keys: %w", err)
	}
	ring, err := newKeyring(keys)
	if err != nil {
		return err
	}
	t.ring.Store(ring)
	return nil
}

// Mint makes a token that opens the given ports of one microVM for ttl, which is at most
// MaxTokenTTL. It does no I/O. Errors: ErrTokenTooLong, or arguments out of range.
func (t *Tokens) Mint(vmID string, ports []PortRange, ttl time.Duration) (string, error) {
	merged, err := merge(ports)
	if err != nil {
		return "", err
	}
	return t.seal(claims{MicroVM: vmID, Ports: merged, Purpose: purposeProxy}, ttl)
}

// MintShell makes a token that opens a shell in one microVM for ttl, which is at most MaxTokenTTL
// (spec/behaviour.md 9). It looks like any other token and opens no port.
func (t *Tokens) MintShell(vmID string, ttl time.Duration) (string, error) {
	return t.seal(claims{MicroVM: vmID, Purpose: purposeShell}, ttl)
}

// seal makes a token of c, which says all but the times.
func (t *Tokens) seal(c claims, ttl time.Duration) (string, error) {
	if ttl <= 0 || ttl > MaxTokenTTL {
		return "", fmt.Errorf("token lifetime %v is not between 0 and %v", ttl, MaxTokenTTL)
	}
	now := t.clock.Now()
	c.IssuedAt, c.Expires = now.Unix(), now.Add(ttl).Unix()
	plaintext, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode token: %w", err)
	}
	token, err := encrypt(t.ring.Load().signer, plaintext)
	if err != nil {
		return "", fmt.Errorf("encrypt token: %w", err)
	}
	if len(token) > maxToken {
		return "", ErrTokenTooLong
	}
	return token, nil
}

// verify returns the claims of a genuine, unexpired token for vmID. What it opens is the caller's to
// look at: its Purpose, and for purposeProxy its Ports.
// Errors: errNotAToken when the text is not even shaped like one, else errTokenRefused.
func (t *Tokens) verify(token, vmID string) (*claims, error) {
	header, err := checkShape(token)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(token))
	c, known := t.verified.Get(sum)
	if !known {
		if c, err = t.ring.Load().open(header, token); err != nil {
			return nil, err
		}
	}
	if c.MicroVM != vmID || !c.Purpose.known() || t.clock.Now().Unix() >= c.Expires {
		return nil, errTokenRefused
	}
	if !known {
		t.verified.Add(sum, c)
	}
	return c, nil
}

// open decrypts a token of one of the ring's keys.
func (ring *keyring) open(header, token string) (*claims, error) {
	secret, ok := ring.byHeader[header]
	if !ok {
		return nil, errTokenRefused
	}
	object, err := jose.ParseEncryptedCompact(token,
		[]jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, errTokenRefused
	}
	plaintext, err := object.Decrypt(secret)
	if err != nil {
		return nil, errTokenRefused
	}
	c := new(claims)
	if err := json.Unmarshal(plaintext, c); err != nil {
		return nil, errTokenRefused
	}
	return c, nil
}

// checkShape tells whether token looks like a compact JWE with direct encryption: five base64url
// segments of which the second is empty. It returns the first segment.
func checkShape(token string) (header string, err error) {
	if len(token) > maxToken {
		return "", errNotAToken
	}
	rest, more := token, true
	for i := range 5 {
		if !more {
			return "", errNotAToken
		}
		var segment string
		segment, rest, more = strings.Cut(rest, ".")
		if (segment == "") != (i == 1) || !isBase64URL(segment) {
			return "", errNotAToken
		}
		if i == 0 {
			header = segment
		}
	}
	if more {
		return "", errNotAToken
	}
	return header, nil
}

func isBase64URL(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
