package awsapi

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

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
// or Operation=off. Later items win.
func ParseRates(items []string) (Rates, error) {
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
		case Operations[operation] == nil:
			return nil, fmt.Errorf("there is no operation %q", operation)
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

// limiter keeps the rates: one token bucket per account and operation, over all regions, which are
// only names here.
type limiter struct {
	rates Rates
	clock clockwork.Clock

	mu      sync.Mutex // guards all below
	buckets map[bucketKey]*rate.Limiter
	sweepAt int // how many buckets there may be before those nobody needs are dropped
}

type bucketKey struct{ account, operation string }

// fewBuckets are kept without looking which of them are needed.
const fewBuckets = 1024

func newLimiter(rates Rates, clock clockwork.Clock) *limiter {
	return &limiter{rates: rates, clock: clock, buckets: map[bucketKey]*rate.Limiter{}, sweepAt: fewBuckets}
}

// admit takes a token for a call, or refuses it and says when to come back.
func (l *limiter) admit(account, operation string) error {
	r, limited := l.rates[operation]
	if !limited {
		return nil
	}
	now := l.clock.Now()
	reserved := l.bucket(bucketKey{account, operation}, r).ReserveN(now, 1)
	wait := reserved.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	reserved.CancelAt(now)
	// The service's codes for these quotas are not published.
	return Throttling("Rate exceeded").WithQuota(signingName, "").WithRetryAfter(wait)
}

func (l *limiter) bucket(key bucketKey, r Rate) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.buckets[key]; b != nil {
		return b
	}
	if len(l.buckets) >= l.sweepAt {
		l.sweep()
	}
	b := rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
	l.buckets[key] = b
	return b
}

// sweep drops the buckets that are full: a new one is no different. The caller holds mu.
func (l *limiter) sweep() {
	now := l.clock.Now()
	for key, b := range l.buckets {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(l.buckets, key)
		}
	}
	l.sweepAt = max(fewBuckets, 2*len(l.buckets))
}

// Limit bounds how often each account may call operations. It comes before the first request.
func (h *Handler) Limit(rates Rates) { h.limiter = newLimiter(rates, h.clock) }
