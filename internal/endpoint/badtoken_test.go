package endpoint

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// badTokens are tokens that open nothing, and how they are refused. All but the last few are shaped
// like good ones.
func badTokens(t *testing.T, w *world) map[string]struct {
	token string
	want  answer
} {
	t.Helper()
	key := w.tokens.ring.Load().keys[0]
	good := claims{MicroVM: testVM, Ports: AllPorts, Expires: w.clock.Now().Add(time.Hour).Unix(), Purpose: purposeProxy}
	past, other := good, good
	past.Expires, other.MicroVM = w.clock.Now().Add(-time.Minute).Unix(), "microvm-other"
	stranger := Key{ID: key.ID, Secret: make([]byte, 32)}
	_, err := rand.Read(stranger.Secret)
	require.NoError(t, err)
	genuine := strings.Split(w.token, ".")
	with := func(segment int, text string) string {
		forged := slices.Clone(genuine)
		forged[segment] = text
		return strings.Join(forged, ".")
	}
	header := func(json string) string { return with(0, base64.RawURLEncoding.EncodeToString([]byte(json))) }
	kid := `"kid":"` + key.ID + `"`
	return map[string]struct {
		token string
		want  answer
	}{
		"forged":                     {forge(t, stranger, jose.A256GCM, nil, good), authFailed},
		"expired":                    {forge(t, key, jose.A256GCM, nil, past), authFailed},
		"of another VM":              {forge(t, key, jose.A256GCM, nil, other), authFailed},
		"tag cut short":              {w.token[:len(w.token)-4], authFailed},
		"ciphertext cut short":       {with(3, genuine[3][:8]), authFailed},
		"alg none":                   {header(`{` + kid + `,"alg":"none","enc":"A256GCM"}`), authFailed},
		"alg HS256":                  {header(`{` + kid + `,"alg":"HS256"}`), authFailed},
		"alg RSA-OAEP, empty key":    {header(`{` + kid + `,"alg":"RSA-OAEP","enc":"A256GCM"}`), authFailed},
		"dir with A128GCM":           {forge(t, key, jose.A128GCM, nil, good), authFailed},
		"dir with A256CBC-HS512":     {header(`{` + kid + `,"alg":"dir","enc":"A256CBC-HS512"}`), authFailed},
		"zip":                        {forge(t, key, jose.A256GCM, &jose.EncrypterOptions{Compression: jose.DEFLATE}, good), authFailed},
		"crit":                       {header(`{` + kid + `,"alg":"dir","enc":"A256GCM","crit":["exp"],"exp":1}`), authFailed},
		"jku":                        {header(`{` + kid + `,"alg":"dir","enc":"A256GCM","jku":"https://127.0.0.1/keys"}`), authFailed},
		"huge header":                {header(`{` + kid + `,"alg":"dir","enc":"A256GCM","x":"` + strings.Repeat("x", 5000) + `"}`), authFailed},
		"header longer than a token": {header(`{` + kid + `,"alg":"dir","enc":"A256GCM","x":"` + strings.Repeat("x", maxToken) + `"}`), authMissing},
		"RSA-OAEP, encrypted key":    {rsaToken(t), authMissing},
		"six segments":               {w.token + ".AAAA", authMissing},
		"four segments":              {strings.Join(genuine[:4], "."), authMissing},
		"a JWS":                      {strings.Join(genuine[2:], "."), authMissing},
	}
}

// rsaToken is a genuine JWE, for a key that its sender has chosen.
func rsaToken(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: &key.PublicKey}, nil)
	require.NoError(t, err)
	token, err := encrypt(encrypter, []byte(`{"vm":"`+testVM+`"}`))
	require.NoError(t, err)
	return token
}

func TestBadTokensNeitherWakeASuspendedVMNorCountAsTraffic(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a bad token reached the app") }))
		w.vm.suspend()
		for name, c := range badTokens(t, w) {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				r := w.request(t, method, "/")
				r.Header.Set(authHeader, c.token)
				res, body := get(t, client, r)
				require.Equal(t, c.want.code, res.Header.Get(errorHeader), name)
				requireAnswer(t, c.want, res, body)
			}
		}
		require.True(t, w.vm.untouched())
		require.Zero(t, w.vm.waiting())
		w.vm.wake()
	})
}

func TestBadTokensAsSubprotocolsWakeNobodyEither(t *testing.T) {
	w := newWorld(t)
	w.vm.suspend()
	for name, c := range badTokens(t, w) {
		_, res, err := w.dialSocket(t, nil, marker, tokenPrefix+c.token)
		require.Error(t, err, name)
		require.Equal(t, c.want.code, res.Header.Get(errorHeader), name)
	}
	require.True(t, w.vm.untouched())
	w.vm.wake()
}
