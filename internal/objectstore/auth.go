package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/rclone/gofakes3/signature"

	"github.com/dormouse-dev/dormouse/internal/sigv4"
)

// signer is who signed a request, and what the signatures of its chunks start from.
type signer struct {
	account   string
	secret    string
	time      string // x-amz-date
	scope     string // date/region/s3/aws4_request
	signature string // hex
	presigned bool
}

// authenticate checks the SigV4 signature in r's Authorization header or query, and that it was
// made at most 15 minutes ago (or, presigned, has not expired). The payload is not looked at.
// S3 has rules that package sigv4 lacks: the path is encoded once and as it is, the payload need not
// be signed, and every x-amz-* header must be, so that nobody turns a presigned upload into a copy.
func (s *Server) authenticate(r *http.Request) (*signer, error) {
	var found signer
	var failure error
	code := signature.V4SignVerifyWithLookup(r, func(accessKeyID string) (string, bool) {
		found.secret, found.account, failure = s.credentials.Secret(r.Context(), accessKeyID)
		return found.secret, failure == nil
	})
	if failure != nil && !errors.Is(failure, sigv4.ErrUnknownKey) {
		return nil, fmt.Errorf("look up access key: %w", failure)
	}
	if code != signature.ErrNone {
		return nil, &apiError{signature.GetAPIError(code)}
	}
	found.parse(r)
	return &found, nil
}

// parse takes the parts of a signature that has been verified, so their form is known to be right.
func (s *signer) parse(r *http.Request) {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if authorization := r.Header.Get("Authorization"); authorization != "" {
		for _, field := range strings.Split(strings.TrimPrefix(authorization, "AWS4-HMAC-SHA256"), ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
			switch name {
			case "Credential":
				credential = value
			case "Signature":
				s.signature = value
			}
		}
		s.time = r.Header.Get("X-Amz-Date")
	} else {
		s.presigned = true
		s.signature = r.URL.Query().Get("X-Amz-Signature")
		s.time = r.URL.Query().Get("X-Amz-Date")
	}
	parts := strings.Split(credential, "/") // the key id itself may hold slashes
	s.scope = strings.Join(parts[max(0, len(parts)-4):], "/")
}

// signingKey derives the key of the scope from the secret.
func (s *signer) signingKey() []byte {
	key := []byte("AWS4" + s.secret)
	for _, part := range strings.Split(s.scope, "/") {
		key = hmacSHA256(key, part)
	}
	return key
}

// callerKey is the context key of a request's *caller.
type callerKey struct{}

// caller is who a request acts for and the body it carries.
type caller struct {
	account     string
	body        *body     // nil for a read in process
	wholeObject *checksum // declared by CompleteMultipartUpload, nil if none
}

func withCaller(ctx context.Context, c *caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func callerOf(ctx context.Context) *caller {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c
	}
	return &caller{} // owns nothing
}
