package role

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/singleflight"
)

const (
	// renewAhead is how long before their end credentials are replaced: SDKs begin to ask for new ones
	// a quarter of an hour ahead (botocore's advisory refresh). Of shorter ones a third of their life.
	renewAhead = 15 * time.Minute
	// retryAfter is how long a failure stands: guests may ask as often as they like.
	retryAfter = 5 * time.Second
)

// Credentials are those of one session. They are asked for when they are needed, renewed ahead of
// their end, and by one call at a time.
type Credentials struct {
	source  source
	session Session
	clock   clockwork.Clock
	calls   singleflight.Group

	mu     sync.Mutex      // guards all below
	have   aws.Credentials // with an expiry; zero: none yet
	made   time.Time       // when have was
	failed error           // of the last call; nil: it succeeded
	since  time.Time       // when failed was
}

var _ aws.CredentialsProvider = (*Credentials)(nil)

func newCredentials(from source, s Session, clock clockwork.Clock) *Credentials {
	return &Credentials{source: from, session: s, clock: clock}
}

// Retrieve returns valid credentials, which always have an expiry. ctx bounds the wait; what it waits
// for goes on for the next who asks.
func (c *Credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if have, err, known := c.known(); known {
		return have, err
	}
	done := c.calls.DoChan("", func() (any, error) { return c.renew() })
	select {
	case result := <-done:
		if result.Err != nil {
			return aws.Credentials{}, result.Err
		}
		return result.Val.(aws.Credentials), nil
	case <-ctx.Done():
		return aws.Credentials{}, context.Cause(ctx)
	}
}

// Made is when the credentials that Retrieve returned last were made.
func (c *Credentials) Made() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made
}

// known is what can be answered without asking the source.
func (c *Credentials) known() (aws.Credentials, error, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	valid := c.have.HasKeys() && now.Before(c.have.Expires)
	switch recently := c.failed != nil && now.Before(c.since.Add(retryAfter)); {
	case valid && (recently || now.Before(c.have.Expires.Add(-c.ahead()))):
		return c.have, nil, true
	case recently:
		return aws.Credentials{}, c.failed, true
	}
	return aws.Credentials{}, nil, false
}

// ahead is how long before their end the present credentials are replaced. The caller holds mu.
func (c *Credentials) ahead() time.Duration {
	return min(renewAhead, c.have.Expires.Sub(c.made)/3)
}

// renew asks the source. Where that fails and what there is still holds, it does not matter yet.
func (c *Credentials) renew() (aws.Credentials, error) {
	if have, err, known := c.known(); known { // by a call that ended between the caller's look and this
		return have, err
	}
	ctx, cancel := clockwork.WithTimeout(context.Background(), c.clock, c.source.limit())
	defer cancel()
	now := c.clock.Now()
	fresh, err := c.source.credentials(ctx, c.session)
	if err == nil && fresh.Expires.IsZero() {
		fresh.Expires = now.Add(Lifetime)
	}
	if err == nil && !fresh.Expires.After(c.clock.Now()) {
		err = errors.New("they have expired already")
	}
	if err == nil && !fresh.HasKeys() {
		err = errors.New("they have no keys")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed, c.since = fmt.Errorf("get credentials of %s: %w", c.session.Role, err), c.clock.Now()
		if c.have.HasKeys() && c.since.Before(c.have.Expires) {
			return c.have, nil
		}
		return aws.Credentials{}, c.failed
	}
	fresh.CanExpire = true
	c.have, c.made, c.failed = fresh, now, nil
	return fresh, nil
}
