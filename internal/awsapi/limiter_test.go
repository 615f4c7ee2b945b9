package awsapi

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

func TestBucketsThatNobodyNeedsAreDropped(t *testing.T) {
	clock := clockwork.NewFakeClock()
	l := NewLimiter(Rates{"SuspendMicrovm": {2, 2}}, clock)
	for n := range 20 * fewBuckets {
		require.NoError(t, l.Admit(fmt.Sprint(n), "SuspendMicrovm"))
		clock.Advance(10 * time.Millisecond) // a bucket is full again after half a second
	}
	require.LessOrEqual(t, len(l.buckets), fewBuckets)
	require.NoError(t, l.Admit("a", "GetMicrovm"))
	require.NotContains(t, l.buckets, bucketKey{"a", "GetMicrovm"}, "an operation without a rate needs none")
}

func TestRefusalsThatOverlapCostNothing(t *testing.T) {
	clock := clockwork.NewFakeClock()
	l := NewLimiter(Rates{"SuspendMicrovm": {1, 1}}, clock)
	for second := range 20 {
		var admitted atomic.Int32
		var calls sync.WaitGroup
		for range 64 {
			calls.Go(func() {
				for range 50 {
					var refusal *Error
					switch err := l.Admit("a", "SuspendMicrovm"); {
					case err == nil:
						admitted.Add(1)
					case !errors.As(err, &refusal) || refusal.RetryAfter != time.Second:
						t.Error(err, refusal)
					}
				}
			})
		}
		calls.Wait()
		require.EqualValues(t, 1, admitted.Load(), "second %d", second)
		clock.Advance(time.Second)
	}
}
