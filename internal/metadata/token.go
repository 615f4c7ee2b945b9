package metadata

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/jonboulle/clockwork"
)

// maxLifetime is the longest life of a session token, as on EC2: six hours.
const maxLifetime = 21600 * time.Second

// tokens are the session tokens of one guest. A token carries its end and a MAC of it, so that a guest
// can ask for any number of them without the daemon keeping one. They outlive a suspend; those of
// another guest, of the VM the snapshot was made from, or of an earlier daemon are no good, and SDKs
// then ask for another.
type tokens struct {
	key   [32]byte
	clock clockwork.Clock
}

func newTokens(clock clockwork.Clock) tokens {
	t := tokens{clock: clock}
	_, _ = rand.Read(t.key[:]) // it never fails
	return t
}

var tokenForm = base64.RawURLEncoding

func (t *tokens) make(lifetime time.Duration) string {
	end := binary.BigEndian.AppendUint64(nil, uint64(t.clock.Now().Add(lifetime).UnixNano()))
	return tokenForm.EncodeToString(append(end, t.mac(end)...))
}

func (t *tokens) mac(end []byte) []byte {
	mac := hmac.New(sha256.New, t.key[:])
	mac.Write(end)
	return mac.Sum(nil)
}

func (t *tokens) valid(token string) bool {
	if len(token) != tokenForm.EncodedLen(8+sha256.Size) {
		return false
	}
	raw, err := tokenForm.Strict().DecodeString(token)
	if err != nil || !hmac.Equal(raw[8:], t.mac(raw[:8])) {
		return false
	}
	return t.clock.Now().UnixNano() < int64(binary.BigEndian.Uint64(raw))
}

// parseLifetime reads the header that asks for a token: 1 to 21600 seconds, once.
func parseLifetime(values []string) (time.Duration, bool) {
	if len(values) != 1 || len(values[0]) > len("21600") {
		return 0, false
	}
	seconds, err := strconv.ParseUint(values[0], 10, 32)
	lifetime := time.Duration(seconds) * time.Second
	return lifetime, err == nil && seconds > 0 && lifetime <= maxLifetime
}
