package awsapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

func TestBucketsThatNobodyNeedsAreDropped(t *testing.T) {
	clock := clockwork.NewFakeClock()
	l := newLimiter(Rates{"SuspendMicrovm": {2, 2}}, clock)
	for n := range 20 * fewBuckets {
		require.NoError(t, l.admit(fmt.Sprint(n), "SuspendMicrovm"))
		clock.Advance(10 * time.Millisecond) // a bucket is full again after half a second
	}
	require.LessOrEqual(t, len(l.buckets), fewBuckets)
	require.NoError(t, l.admit("a", "GetMicrovm"))
	require.NotContains(t, l.buckets, bucketKey{"a", "GetMicrovm"}, "an operation without a rate needs none")
}
