package awsapi

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/time/rate"
)

// Rate is how often an account may call an operation: Burst calls at once, PerSecond on average.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Rates are the rates of operations by name. An operation that is not in it has no limit.
type Rates map[string]Rate

// awsRates are the published defaults of the service (spec/api.md 5).
var awsRates = Rates{
	"RunMicrovm":                  {5, 5},
	"ResumeMicrovm":               {5, 5},
	"SuspendMicrovm":              {2, 2},
	"TerminateMicrovm":            {10, 10},
	"GetMicrovm":                  {100, 100},
	"CreateMicrovmAuthToken":      {50, 50},
	"CreateMicrovmShellAuthToken": {5, 5},
}

// maxRate bounds what can be configured, so that nothing overflows.
const maxRate = 1_000_000

// ParseRates reads what an operator configured: "aws" for the service's own rates, and
// Operation=RATE or Operation=RATE/BURST with the rate per second (burst: the rate, rounded up),
// or Operation=off. Later items win. others are operations beyond those of the AWS API.
func ParseRates(items []string, others ...string) (Rates, error) {
	rates := Rates{}
	for _, item := range items {
		operation, value, isPair := strings.Cut(item, "=")
		switch {
		case item == "aws":
			for operation, r := range awsRates {
				rates[operation] = r
			}
		case !isPair:
			return nil, fmt.Errorf("%q is neither aws nor Operation=RATE", item)
		case Operations[operation] == nil && !slices.Contains(others, operation):
			return nil, unknownOperation(operation, append(slices.Collect(maps.Keys(Operations)), others...))
		case value == "off":
			delete(rates, operation)
		default:
			r, err := parseRate(value)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", item, err)
			}
			rates[operation] = r
		}
	}
	return rates, nil
}

// unknownOperation names the operations that may have been meant, or all.
func unknownOperation(given string, known []string) error {
	slices.Sort(known)
	near := slices.DeleteFunc(slices.Clone(known), func(name string) bool {
		return given == "" || !strings.Contains(strings.ToLower(name), strings.ToLower(given))
	})
	if len(near) == 0 {
		return fmt.Errorf("there is no operation %q; there are %s", given, strings.Join(known, ", "))
	}
	return fmt.Errorf("there is no operation %q; is it %s?", given, strings.Join(near, ", "))
}

func parseRate(text string) (Rate, error) {
	perSecond, burst, hasBurst := strings.Cut(text, "/")
	r := Rate{}
	var err error
	if r.PerSecond, err = strconv.ParseFloat(perSecond, 64); err != nil || !(r.PerSecond > 0 && r.PerSecond <= maxRate) {
		return Rate{}, fmt.Errorf("the rate is a number of calls per second, up to %d", maxRate)
	}
	if !hasBurst {
		r.Burst = int(math.Ceil(r.PerSecond))
		return r, nil
	}
	if r.Burst, err = strconv.Atoi(burst); err != nil || r.Burst < 1 || r.Burst > maxRate {
		return Rate{}, fmt.Errorf("the burst is a number of calls, up to %d", maxRate)
	}
	return r, nil
}

// Limiter bounds how often each account may call operations: one token bucket per account and
// operation, over all regions, which are only names here. It is safe for concurrent use.
type Limiter struct {
	rates Rates
	clock clockwork.Clock

	mu      sync.Mutex // guards all below
	buckets map[bucketKey]*rate.Limiter
	sweepAt int // how many buckets there may be before those nobody needs are dropped
}

type bucketKey struct{ account, operation string }

// fewBuckets are kept without looking which of them are needed.
const fewBuckets = 1024

// NewLimiter returns a Limiter that keeps accounts to rates; none is no limit.
func NewLimiter(rates Rates, clock clockwork.Clock) *Limiter {
	return &Limiter{rates: rates, clock: clock, buckets: map[bucketKey]*rate.Limiter{}, sweepAt: fewBuckets}
}

// Admit takes a token for a call, or refuses it and says when to come back. A refused call takes
// nothing, however many come at once: a reservation that is cancelled would not always be given back.
func (l *Limiter) Admit(account, operation string) error {
	r, limited := l.rates[operation]
	if !limited {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	b := l.bucket(bucketKey{account, operation}, r, now)
	if b.AllowN(now, 1) {
		return nil
	}
	wait := time.Duration((1 - b.TokensAt(now)) / r.PerSecond * float64(time.Second))
	// The service's codes for these quotas are not published.
	return Throttling("Rate exceeded").WithQuota(signingName, "").WithRetryAfter(wait)
}

// bucket finds or makes a bucket. The caller holds mu.
func (l *Limiter) bucket(key bucketKey, r Rate, now time.Time) *rate.Limiter {
	if b := l.buckets[key]; b != nil {
		return b
	}
	if len(l.buckets) >= l.sweepAt {
		l.sweep(now)
	}
	b := rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
	l.buckets[key] = b
	return b
}

// sweep drops the buckets that are full: a new one is no different. The caller holds mu.
func (l *Limiter) sweep(now time.Time) {
	for key, b := range l.buckets {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(l.buckets, key)
		}
	}
	l.sweepAt = max(fewBuckets, 2*len(l.buckets))
}
