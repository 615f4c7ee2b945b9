package awsapi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/sigv4"
)

// signingName is the service in the credential scope (spec/api.md 1.1).
const signingName = "lambda"

// Credentials looks up access keys; an unknown one is sigv4.ErrUnknownKey.
type Credentials = sigv4.Credentials

// Authenticator checks the signature of every request (spec/api.md 1.2).
type Authenticator struct {
	verifier sigv4.Verifier
}

// NewAuthenticator checks against credentials; clock decides which signatures have expired.
func NewAuthenticator(credentials Credentials, clock clockwork.Clock) *Authenticator {
	return &Authenticator{sigv4.Verifier{Credentials: credentials, Service: signingName, Clock: clock}}
}

// Authenticate checks who sent r and reads its body, up to MaxBody bytes; strangers are turned away
// before that. What it refuses, it refuses with an *Error.
func (a *Authenticator) Authenticate(w http.ResponseWriter, r *http.Request) (Caller, []byte, error) {
	if r.ContentLength > MaxBody {
		return Caller{}, nil, tooLarge()
	}
	claim, err := a.claim(r)
	if err != nil {
		return Caller{}, nil, err
	}
	body, err := readBody(w, r)
	if err != nil {
		return Caller{}, nil, err
	}
	caller, err := a.prove(claim, r, body)
	return caller, body, err
}

// claim reads who r says it is from, before its body is read.
func (a *Authenticator) claim(r *http.Request) (*sigv4.Claim, error) {
	c, err := a.verifier.Claim(r)
	return c, signatureError(err)
}

// prove checks the signature of a claim with the body the request really has.
func (a *Authenticator) prove(c *sigv4.Claim, r *http.Request, body []byte) (Caller, error) {
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	// The CLI does not send this header. Whoever does has to tell the truth in it.
	if stated := r.Header.Get("X-Amz-Content-Sha256"); stated != "" && stated != hash {
		return Caller{}, Errorf(InvalidSignatureException, "The header x-amz-content-sha256 is not the SHA-256 of the request body.")
	}
	if err := signatureError(c.Prove(r, hash)); err != nil {
		return Caller{}, err
	}
	return Caller{AccountID: c.AccountID, Region: c.Region, AccessKeyID: c.AccessKeyID}, nil
}

// signatureError makes a refusal of package sigv4 one of ours.
func signatureError(err error) error {
	var refusal *sigv4.Error
	if errors.As(err, &refusal) {
		return Errorf(ErrorCode(refusal.Code), "%s", refusal.Message)
	}
	return err
}
