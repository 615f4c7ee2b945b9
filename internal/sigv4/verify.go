// Package sigv4 checks AWS Signature Version 4 on requests by signing them again with the SDK's own signer.
package sigv4

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/jonboulle/clockwork"
)

// MaxSkew is how far the time of a signature may be from ours.
const MaxSkew = 15 * time.Minute

// timeForm is the form of X-Amz-Date.
const timeForm = "20060102T150405Z"

// Credentials looks up access keys. Secret returns ErrUnknownKey for a key that does not exist.
type Credentials interface {
	Secret(ctx context.Context, accessKeyID string) (secret, accountID string, err error)
}

// ErrUnknownKey says that no account has the access key.
var ErrUnknownKey = errors.New("unknown access key")

// Error refuses a request. Code is the AWS name of the error, Message is safe for the caller.
type Error struct {
	Code    string
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func incomplete(message string) *Error { return &Error{"IncompleteSignatureException", message} }
func invalid(message string) *Error    { return &Error{"InvalidSignatureException", message} }

func unrecognized() *Error {
	return &Error{"UnrecognizedClientException", "The security token included in the request is invalid."}
}

// Verifier checks the requests of one service.
type Verifier struct {
	Credentials Credentials
	Service     string // of the credential scope: lambda
	Clock       clockwork.Clock
}

// Claim is who a request says it is from, before the signature is checked.
type Claim struct {
	AccessKeyID string
	AccountID   string
	Region      string

	authorization authorization
	secret        string
	service       string
	at            time.Time
}

// Claim reads who a request says it is from. It needs the head of the request only, so that
// strangers are turned away before their body is read. It returns an *Error, or another error
// when the credentials could not be looked up.
func (v *Verifier) Claim(r *http.Request) (*Claim, error) {
	a, date, err := read(r)
	if err != nil {
		return nil, err
	}
	at, err := v.checkScope(a, date)
	if err != nil {
		return nil, err
	}
	secret, account, err := v.Credentials.Secret(r.Context(), a.accessKeyID)
	if errors.Is(err, ErrUnknownKey) {
		return nil, unrecognized()
	}
	if err != nil {
		return nil, fmt.Errorf("look up access key: %w", err)
	}
	return &Claim{
		AccessKeyID: a.accessKeyID, AccountID: account, Region: a.region,
		authorization: a, secret: secret, service: v.Service, at: at,
	}, nil
}

// read finds the signature of a request, in its header or in its query, and the date that goes with it.
func read(r *http.Request) (a authorization, date string, err error) {
	_, rawQuery := Target(r)
	parameters, malformed := url.ParseQuery(rawQuery)
	headers := r.Header.Values("Authorization")
	switch {
	case len(headers) > 1 || len(headers) == 1 && presigned(parameters):
		return authorization{}, "", incomplete("The request has more than one signature.")
	case len(headers) == 1:
		a, err = parseAuthorization(headers[0])
		date = r.Header.Get("X-Amz-Date")
	case presigned(parameters):
		a, err = parsePresigned(parameters, malformed)
		date = parameters.Get(queryDate)
	default:
		err = &Error{"MissingAuthenticationTokenException", "Missing Authentication Token"}
	}
	if err == nil && (r.Header.Get("X-Amz-Security-Token") != "" || parameters.Get(querySecurityToken) != "") {
		err = unrecognized() // all keys are long-term ones, which have no session token
	}
	return a, date, err
}

// checkScope checks service, date and time of a signature and returns its time.
func (v *Verifier) checkScope(a authorization, date string) (time.Time, error) {
	if a.service != v.Service {
		return time.Time{}, invalid("Credential should be scoped to correct service: '" + v.Service + "'.")
	}
	if date == "" {
		return time.Time{}, incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
	}
	at, err := time.Parse(timeForm, date)
	if err != nil {
		return time.Time{}, incomplete("Date must be in ISO-8601 'basic format', for example 20261123T145105Z.")
	}
	if day := at.Format("20060102"); a.date != day {
		return time.Time{}, invalid(fmt.Sprintf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%.16s' != '%s', from '%s'.", a.date, day, date))
	}
	now := v.Clock.Now().UTC()
	life, inWords := MaxSkew, "15 min."
	if a.expires > 0 {
		life, inWords = a.expires, fmt.Sprintf("%d sec.", a.expires/time.Second)
	}
	if earliest := now.Add(-life); at.Before(earliest) {
		return time.Time{}, invalid(fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - %s)", date, earliest.Format(timeForm), now.Format(timeForm), inWords))
	}
	if latest := now.Add(MaxSkew); at.After(latest) {
		return time.Time{}, invalid(fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 15 min.)", date, latest.Format(timeForm), now.Format(timeForm)))
	}
	return at, nil
}

// Prove checks the signature of the request the claim was read from. payloadHash is what stands
// for the body in the canonical request: the SHA-256 of the body, in hex, which the caller must have
// computed and not taken from a header.
func (c *Claim) Prove(r *http.Request, payloadHash string) error {
	rawPath, rawQuery := Target(r)
	for _, canonical := range canonicalPaths(rawPath) {
		signature, err := c.sign(r, canonical, rawQuery, payloadHash)
		if err != nil {
			return fmt.Errorf("sign request again: %w", err)
		}
		if hmac.Equal([]byte(signature), []byte(c.authorization.signature)) {
			return nil
		}
	}
	return invalid("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

// Target is path and query of a request as they were sent; r.URL has them decoded and encoded
// again, which does not always give back the same bytes.
func Target(r *http.Request) (rawPath, rawQuery string) {
	target := r.RequestURI
	if _, rest, absolute := strings.Cut(target, "://"); absolute && !strings.HasPrefix(target, "/") {
		slash := max(strings.IndexByte(rest, '/'), 0) // a proxy's form: http://host/path
		target = rest[slash:]
	}
	rawPath, rawQuery, _ = strings.Cut(target, "?")
	return rawPath, rawQuery
}

// canonicalPaths are the paths a client may have signed: the one it sent or, when that has empty
// or dot segments, the one without them (botocore and the JS SDK sign that one, Go signs the other).
func canonicalPaths(rawPath string) []string {
	clean := path.Clean("/" + rawPath)
	if strings.HasSuffix(rawPath, "/") && clean != "/" {
		clean += "/"
	}
	return slices.Compact([]string{rawPath, clean})
}

// sign computes the signature of r over the headers the client signed.
func (c *Claim) sign(r *http.Request, rawPath, rawQuery, payloadHash string) (string, error) {
	again := &http.Request{
		Method: r.Method,
		Host:   r.Host,
		URL:    &url.URL{Opaque: "//host" + rawPath, RawQuery: rawQuery}, // Opaque is used as it is
		Header: http.Header{},
	}
	for _, name := range c.authorization.signedHeaders {
		switch name {
		case "host", "x-amz-date": // the signer adds them
		case "content-length": // of a body: the signer leaves one of 0 out, as SDKs do, so who signs that is refused
			again.ContentLength = r.ContentLength
		default:
			key := http.CanonicalHeaderKey(name)
			again.Header[key] = slices.Clone(r.Header[key])
		}
	}
	// A signer of its own for every request: the SDK's keeps derived keys per region, which the
	// caller chooses freely, and does not notice when the secret behind a key id changes.
	signer := v4.NewSigner()
	keys := aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.secret}
	if c.authorization.expires > 0 {
		again.URL.RawQuery = unsigned(rawQuery)
		signed, _, err := signer.PresignHTTP(r.Context(), keys, again, payloadHash, c.service, c.Region, c.at, func(o *v4.SignerOptions) {
			o.DisableHeaderHoisting = true // those the client signed as headers are headers
		})
		_, signature, _ := strings.Cut(signed, "&"+querySignature+"=")
		return signature, err
	}
	if err := signer.SignHTTP(r.Context(), keys, again, payloadHash, c.service, c.Region, c.at); err != nil {
		return "", err
	}
	_, signature, _ := strings.Cut(again.Header.Get("Authorization"), "Signature=")
	return signature, nil
}
