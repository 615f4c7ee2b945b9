package endpoint

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi/awsapitest"
)

const testVM = "microvm-7d3c1f0e-2f65-4f0b-9a35-0f6a3c1b2d4e"

// memoryKeys keeps keys as the store would.
type memoryKeys struct {
	keys []Key
	err  error
}

func (m *memoryKeys) LoadTokenKeys(context.Context) ([]Key, error) {
	return slices.Clone(m.keys), m.err
}

func (m *memoryKeys) SaveTokenKeys(_ context.Context, keys []Key) error {
	if m.err == nil {
		m.keys = slices.Clone(keys)
	}
	return m.err
}

func openTokens(t testing.TB, keys Keys, clock clockwork.Clock) *Tokens {
	t.Helper()
	tokens, err := OpenTokens(t.Context(), keys, clock)
	require.NoError(t, err)
	return tokens
}

func mint(t testing.TB, tokens *Tokens, vmID string, ports ...PortRange) string {
	t.Helper()
	token, err := tokens.Mint(vmID, ports, time.Hour)
	require.NoError(t, err)
	return token
}

func TestTokenLooksLikeTheServices(t *testing.T) {
	tokens := openTokens(t, &memoryKeys{}, clockwork.NewFakeClock())
	segments := strings.Split(mint(t, tokens, testVM, AllPorts...), ".")
	require.Len(t, segments, 5)
	require.Empty(t, segments[1])
	header, err := base64.RawURLEncoding.DecodeString(segments[0])
	require.NoError(t, err)
	var fields map[string]string
	require.NoError(t, json.Unmarshal(header, &fields))
	require.Regexp(t, `^[0-9a-f-]{36}$`, fields["kid"])
	delete(fields, "kid")
	require.Equal(t, map[string]string{"alg": "dir", "enc": "A256GCM"}, fields)
}

func TestTokenOpensItsPortsOfItsVMUntilItExpires(t *testing.T) {
	clock := clockwork.NewFakeClock()
	tokens := openTokens(t, &memoryKeys{}, clock)
	token, err := tokens.Mint(testVM, []PortRange{{8000, 8100}, {9000, 9000}}, 5*time.Minute)
	require.NoError(t, err)

	for range 2 { // decrypted, then remembered
		c, err := tokens.verify(token, testVM)
		require.NoError(t, err)
		require.True(t, covers(c.Ports, 8000) && covers(c.Ports, 8100) && covers(c.Ports, 9000))
		require.False(t, covers(c.Ports, 7999) || covers(c.Ports, 8101) || covers(c.Ports, 9001))
		_, err = tokens.verify(token, "microvm-of-someone-else")
		require.ErrorIs(t, err, errTokenRefused)
	}

	clock.Advance(5*time.Minute - time.Second)
	_, err = tokens.verify(token, testVM)
	require.NoError(t, err)
	clock.Advance(time.Second)
	_, err = tokens.verify(token, testVM)
	require.ErrorIs(t, err, errTokenRefused)
}

func TestMintRefusesWhatNoTokenCanSay(t *testing.T) {
	tokens := openTokens(t, &memoryKeys{}, clockwork.NewFakeClock())
	for _, ttl := range []time.Duration{0, -time.Second, MaxTokenTTL + 1} {
		_, err := tokens.Mint(testVM, AllPorts, ttl)
		require.Error(t, err, ttl)
	}
	_, err := tokens.Mint(testVM, []PortRange{{5, 4}}, time.Minute)
	require.Error(t, err)

	var scattered []PortRange
	for port := uint16(10000); port < 14000; port += 2 {
		scattered = append(scattered, PortRange{port, port})
	}
	_, err = tokens.Mint(testVM, scattered, time.Minute)
	require.ErrorIs(t, err, ErrTokenTooLong)
}

// forge makes a token with the genuine key but other options, as if its maker had been careless.
func forge(t *testing.T, key Key, enc jose.ContentEncryption, options *jose.EncrypterOptions, c claims) string {
	t.Helper()
	size := map[jose.ContentEncryption]int{jose.A128GCM: 16, jose.A256GCM: 32}[enc]
	encrypter, err := jose.NewEncrypter(enc, jose.Recipient{Algorithm: jose.DIRECT, Key: key.Secret[:size], KeyID: key.ID}, options)
	require.NoError(t, err)
	plaintext, err := json.Marshal(c)
	require.NoError(t, err)
	token, err := encrypt(encrypter, plaintext)
	require.NoError(t, err)
	return token
}

func TestForgedTokensAreRefused(t *testing.T) {
	clock := clockwork.NewFakeClock()
	keys := &memoryKeys{}
	tokens := openTokens(t, keys, clock)
	key := keys.keys[0]
	genuine := mint(t, tokens, testVM, AllPorts...)
	good := claims{MicroVM: testVM, Ports: AllPorts, Expires: clock.Now().Add(time.Hour).Unix(), Purpose: purposeProxy}
	_, err := tokens.verify(forge(t, key, jose.A256GCM, nil, good), testVM)
	require.NoError(t, err, "the forgeries below differ from this in one thing each")

	foreign := Key{ID: key.ID, Secret: make([]byte, 32)}
	_, err = rand.Read(foreign.Secret)
	require.NoError(t, err)
	unknown := Key{ID: "3d8e7e4c-0000-4000-8000-000000000000", Secret: key.Secret}
	admin := good
	admin.Purpose = "admin"
	segments := strings.Split(genuine, ".")
	header := func(json string) string {
		return strings.Join(append([]string{base64.RawURLEncoding.EncodeToString([]byte(json))}, segments[1:]...), ".")
	}
	flip := func(segment int) string {
		forged := slices.Clone(segments)
		first := "A"
		if strings.HasPrefix(forged[segment], first) {
			first = "B"
		}
		forged[segment] = first + forged[segment][1:]
		return strings.Join(forged, ".")
	}

	for name, token := range map[string]string{
		"foreign key under a known kid": forge(t, foreign, jose.A256GCM, nil, good),
		"unknown kid":                   forge(t, unknown, jose.A256GCM, nil, good),
		"compressed":                    forge(t, key, jose.A256GCM, &jose.EncrypterOptions{Compression: jose.DEFLATE}, good),
		"weaker enc":                    forge(t, key, jose.A128GCM, nil, good),
		"extra header":                  forge(t, key, jose.A256GCM, (&jose.EncrypterOptions{}).WithType("JWT"), good),
		"other purpose":                 forge(t, key, jose.A256GCM, nil, admin),
		"alg none":                      header(`{"alg":"none","enc":"A256GCM","kid":"` + key.ID + `"}`),
		"alg PBES2 with much work":      header(`{"alg":"PBES2-HS256+A128KW","p2c":1000000000,"p2s":"AA","enc":"A256GCM","kid":"` + key.ID + `"}`),
		"header not JSON":               header(`{`),
		"header changed":                flip(0),
		"nonce changed":                 flip(2),
		"ciphertext changed":            flip(3),
		"tag changed":                   flip(4),
		"tag cut short":                 genuine[:len(genuine)-4],
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tokens.verify(token, testVM)
			require.ErrorIs(t, err, errTokenRefused)
		})
	}

	for name, token := range map[string]string{
		"empty":              "",
		"a word":             "secret",
		"a JWS":              "a.b.c",
		"truncated":          strings.Join(segments[:4], "."),
		"six segments":       genuine + ".AAAA",
		"empty tag":          strings.Join(segments[:4], ".") + ".",
		"encrypted key":      strings.Join([]string{segments[0], "AAAA", segments[2], segments[3], segments[4]}, "."),
		"JSON serialization": `{"protected":"` + segments[0] + `"}`,
		"padded base64":      genuine + "=",
		"too long":           genuine + strings.Repeat("A", maxToken),
		"many dots":          strings.Repeat(".", 7000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tokens.verify(token, testVM)
			require.ErrorIs(t, err, errNotAToken)
		})
	}
}

func TestAShellTokenLooksLikeAnyOtherAndOpensNoPort(t *testing.T) {
	clock := clockwork.NewFakeClock()
	tokens := openTokens(t, &memoryKeys{}, clock)
	token, err := tokens.MintShell(testVM, time.Minute)
	require.NoError(t, err)
	segments, others := strings.Split(token, "."), strings.Split(mint(t, tokens, testVM, AllPorts...), ".")
	require.Len(t, segments, 5)
	require.Equal(t, others[:2], segments[:2])
	for range 2 { // decrypted, then remembered
		c, err := tokens.verify(token, testVM)
		require.NoError(t, err)
		require.Equal(t, purposeShell, c.Purpose)
		require.Empty(t, c.Ports)
		_, err = tokens.verify(token, "microvm-of-someone-else")
		require.ErrorIs(t, err, errTokenRefused)
	}
	clock.Advance(time.Minute)
	_, err = tokens.verify(token, testVM)
	require.ErrorIs(t, err, errTokenRefused)
	for _, ttl := range []time.Duration{0, MaxTokenTTL + 1} {
		_, err := tokens.MintShell(testVM, ttl)
		require.Error(t, err, ttl)
	}
	c, err := tokens.verify(mint(t, tokens, testVM, AllPorts...), testVM)
	require.NoError(t, err)
	require.Equal(t, purposeProxy, c.Purpose, "and no other token opens a shell")
}

func TestTokensOutliveARestart(t *testing.T) {
	clock := clockwork.NewFakeClock()
	keys := &memoryKeys{}
	token := mint(t, openTokens(t, keys, clock), testVM, AllPorts...)
	_, err := openTokens(t, keys, clock).verify(token, testVM)
	require.NoError(t, err)
	require.Len(t, keys.keys, 1)
}

func TestRotationKeepsAKeyUntilItsLastTokenHasExpired(t *testing.T) {
	clock := clockwork.NewFakeClock()
	keys := &memoryKeys{}
	tokens := openTokens(t, keys, clock)
	first := keys.keys[0].ID

	clock.Advance(keyLife)
	last := mint(t, tokens, testVM, AllPorts...)
	require.NoError(t, tokens.Rotate(t.Context()))
	require.Len(t, keys.keys, 2)
	second := keys.keys[1].ID
	require.NotEqual(t, first, second)

	clock.Advance(MaxTokenTTL - time.Second)
	require.NoError(t, tokens.Rotate(t.Context()))
	for _, reader := range []*Tokens{tokens, openTokens(t, keys, clock)} {
		_, err := reader.verify(last, testVM)
		require.NoError(t, err)
	}

	clock.Advance(2 * time.Second)
	require.NoError(t, tokens.Rotate(t.Context()))
	require.Len(t, keys.keys, 1)
	require.Equal(t, second, keys.keys[0].ID)
}

func TestKeyThatCannotBeSavedIsNotUsed(t *testing.T) {
	clock := clockwork.NewFakeClock()
	keys := &memoryKeys{}
	tokens := openTokens(t, keys, clock)
	clock.Advance(keyLife)
	keys.err = errors.New("disk full")
	require.ErrorContains(t, tokens.Rotate(t.Context()), "disk full")

	keys.err = nil
	_, err := openTokens(t, &memoryKeys{keys: keys.keys}, clock).verify(mint(t, tokens, testVM, AllPorts...), testVM)
	require.NoError(t, err, "minted with the key that is on disk")
}

func FuzzToken(f *testing.F) {
	tokens := openTokens(f, &memoryKeys{}, clockwork.NewFakeClock())
	genuine := mint(f, tokens, testVM, PortRange{80, 80})
	f.Add(genuine)
	f.Add("....")
	f.Add("eyJ..a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := tokens.verify(token, testVM); err == nil {
			require.Equal(t, decoded(t, genuine), decoded(t, token), "accepted a token that was never minted")
		}
	})
}

// decoded is the bytes of a token's segments: base64url has several spellings for the same bytes.
func decoded(t *testing.T, token string) [][]byte {
	t.Helper()
	var segments [][]byte
	for segment := range strings.SplitSeq(token, ".") {
		bytes, err := base64.RawURLEncoding.DecodeString(segment)
		require.NoError(t, err)
		segments = append(segments, bytes)
	}
	return segments
}

func TestNoTokenIsLongerThanTheAPIAllows(t *testing.T) {
	value := awsapitest.ReadModel(t).Operations["CreateMicrovmAuthToken"].Output["authToken"].Value
	require.EqualValues(t, maxToken, *value.MaxLength)
}
