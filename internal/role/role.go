// Package role gets the credentials of IAM roles from where the configuration says they come from.
package role

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/config"
)

// Lifetime is how long credentials hold whose source does not say: what the service's own do
// (spec/behaviour.md 11). It is also what an STS is asked for.
const Lifetime = 55 * time.Minute

// ErrUnknown means that the configuration has no credentials for a role.
var ErrUnknown = errors.New("the configuration has no credentials for this role")

// Session is who uses a role.
type Session struct {
	Role string // ARN
	Name string // microVM id or build; the name of an STS session
	// Tags tell what the session is for, to an STS that is asked for it.
	Tags map[string]string
}

// Roles are all roles of a configuration.
type Roles struct {
	sources map[string]source // by ARN
	clock   clockwork.Clock
	running chan struct{} // a token per command that runs
}

// source makes credentials for a session. Their expiry is zero where the source does not tell.
type source interface {
	credentials(ctx context.Context, s Session) (aws.Credentials, error)
	limit() time.Duration // for one call
}

// everyRole ends the ARN of an entry for all roles of an account.
const everyRole = ":role/*"

// maxCommands bounds how many commands run at once, whatever guests ask for.
const maxCommands = 8

// New reads what a configuration says. Nothing is asked for credentials before they are needed.
func New(ctx context.Context, roles []config.Role, clock clockwork.Clock) (*Roles, error) {
	r := &Roles{sources: map[string]source{}, clock: clock, running: make(chan struct{}, maxCommands)}
	for _, role := range roles {
		found, err := r.source(ctx, role)
		if err != nil {
			return nil, fmt.Errorf("role %s: %w", role.ARN, err)
		}
		r.sources[role.ARN] = found
	}
	return r, nil
}

func (r *Roles) source(ctx context.Context, role config.Role) (source, error) {
	switch {
	case role.Static != nil:
		return static(*role.Static), nil
	case role.Command != nil:
		return &command{args: role.Command.Args, timeout: role.Command.Timeout, running: r.running}, nil
	case role.Assume != nil:
		return newAssumption(ctx, role)
	}
	return nil, errors.New("it has no source of credentials")
}

// For returns the credentials of a role for one session, or ErrUnknown. Each session has a cache of its
// own, so whoever asks for credentials again and again keeps what For returned.
func (r *Roles) For(s Session) (*Credentials, error) {
	found, ok := r.sources[s.Role]
	if !ok {
		account, _, _ := strings.Cut(s.Role, ":role/")
		found, ok = r.sources[account+everyRole]
	}
	if !ok {
		return nil, ErrUnknown
	}
	return newCredentials(found, s, r.clock), nil
}

// static are keys from the configuration.
type static config.KeyPair

func (k static) credentials(context.Context, Session) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey, SessionToken: k.SessionToken, Source: "static"}, nil
}

func (static) limit() time.Duration { return time.Second }
