package endpoint

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
)

const (
	// MaxTokenTTL is the longest life of a token (spec/behaviour.md 8: 1-60 minutes).
	MaxTokenTTL = time.Hour
	// keyLife is how long a key signs. AES-GCM with random nonces is good for 2^32 tokens per key;
	// a day of tokens at the API's 50 per second (spec/api.md 5) is 2^22.
	keyLife = 24 * time.Hour
)

// Key encrypts tokens. The newest key of a set makes tokens; older ones only read them.
type Key struct {
	ID        string // UUID, the "kid" of a token
	Secret    []byte // 32 bytes, AES-256
	CreatedAt time.Time
}

// Keys is where token keys are kept, so that tokens stay valid when the daemon restarts.
type Keys interface {
	// LoadTokenKeys returns every key saved, in any order; none on first start.
	LoadTokenKeys(ctx context.Context) ([]Key, error)
	// SaveTokenKeys replaces all keys, in one step.
	SaveTokenKeys(ctx context.Context, keys []Key) error
}

// keyring is an immutable set of keys, oldest first. Tokens swaps the whole set when it rotates.
type keyring struct {
	keys   []Key
	signer jose.Encrypter
	// byHeader finds a key by the first segment of its tokens. That segment is the same in every
	// token of a key, so it is compared and never parsed: a token that names another algorithm,
	// compression or unknown key stops here.
	byHeader map[string][]byte
}

// rotated returns the keys to go on with at now, oldest first, and whether they differ from keys.
// The newest key is replaced when it is keyLife old. A replaced key stays for MaxTokenTTL, until
// the last token made with it has expired.
func rotated(keys []Key, now time.Time) (next []Key, changed bool, err error) {
	for i, key := range keys {
		if i+1 < len(keys) && now.Sub(keys[i+1].CreatedAt) > MaxTokenTTL {
			changed = true
			continue
		}
		next = append(next, key)
	}
	if n := len(next); n > 0 && now.Sub(next[n-1].CreatedAt) < keyLife {
		return next, changed, nil
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, false, fmt.Errorf("make token key: %w", err)
	}
	return append(next, Key{ID: uuid.NewString(), Secret: secret, CreatedAt: now}), true, nil
}

func newKeyring(keys []Key) (*keyring, error) {
	ring := &keyring{keys: keys, byHeader: make(map[string][]byte, len(keys))}
	for _, key := range keys {
		encrypter, err := jose.NewEncrypter(jose.A256GCM,
			jose.Recipient{Algorithm: jose.DIRECT, Key: key.Secret, KeyID: key.ID}, nil)
		if err != nil {
			return nil, fmt.Errorf("use token key %s: %w", key.ID, err)
		}
		probe, err := encrypt(encrypter, nil)
		if err != nil {
			return nil, fmt.Errorf("use token key %s: %w", key.ID, err)
		}
		header, _, _ := strings.Cut(probe, ".")
		ring.byHeader[header] = key.Secret
		ring.signer = encrypter
	}
	return ring, nil
}

func encrypt(encrypter jose.Encrypter, plaintext []byte) (string, error) {
	object, err := encrypter.Encrypt(plaintext)
	if err != nil {
		return "", err
	}
	return object.CompactSerialize()
}
