// Package pagetoken makes the opaque nextToken of list operations: an encrypted cursor that only the same listing accepts again.
package pagetoken

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// KeySize is the size of a key, in bytes (AES-256).
const KeySize = 32

// maxToken bounds a token, in bytes. Live ones have up to 800 (spec/api.md 1.5).
const maxToken = 4096

// ErrInvalid says that a token was not made by this codec for this listing.
var ErrInvalid = errors.New("invalid page token")

// Codec makes and reads page tokens.
type Codec struct{ aead cipher.AEAD }

// New makes a codec from a key of KeySize random bytes. Tokens stay readable as long as the key stays the same.
func New(key []byte) (*Codec, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("page token key has %d bytes, want %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("page token key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("page token cipher: %w", err)
	}
	return &Codec{aead}, nil
}

// Listing is what a token belongs to: another operation, account, region or filter refuses it.
type Listing struct {
	Operation string
	Account   string
	Region    string
	Filters   map[string]string // everything that decides which items are listed; not the page size
}

// authenticated is the form of l that tokens are bound to. JSON of a map has its keys sorted.
func (l Listing) authenticated() []byte {
	text, err := json.Marshal(l)
	if err != nil {
		panic("pagetoken: a structure of strings does not marshal: " + err.Error())
	}
	return text
}

// Seal makes the token of the page after cursor. The cursor is the sort key of the last item
// listed (and not an offset), so that items added or removed meanwhile shift nothing.
func (c *Codec) Seal(l Listing, cursor string) string {
	return base64.URLEncoding.EncodeToString(c.aead.Seal(nil, nil, []byte(cursor), l.authenticated()))
}

// Open returns the cursor of a token, or ErrInvalid.
func (c *Codec) Open(l Listing, token string) (cursor string, err error) {
	if len(token) > maxToken {
		return "", ErrInvalid
	}
	sealed, err := base64.URLEncoding.Strict().DecodeString(token)
	if err != nil {
		return "", ErrInvalid
	}
	plain, err := c.aead.Open(nil, nil, sealed, l.authenticated())
	if err != nil {
		return "", ErrInvalid
	}
	return string(plain), nil
}
