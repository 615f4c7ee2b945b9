package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPercentileIsTheNearestRank(t *testing.T) {
	for _, test := range []struct {
		name    string
		samples []int64
		p       float64
		want    int64
	}{
		{"of nothing is nothing", nil, 50, 0},
		{"of one is that one", []int64{7}, 95, 7},
		{"the lower middle of an even number", []int64{4, 1, 3, 2}, 50, 2},
		{"the middle of an odd number", []int64{5, 1, 4, 2, 3}, 50, 3},
		{"p95 of twenty is the nineteenth", []int64{20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, 95, 19},
		{"p95 of nineteen is the largest", []int64{19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, 95, 19},
		{"p0 is the smallest", []int64{3, 2}, 0, 2},
		{"p100 is the largest", []int64{3, 2}, 100, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := append([]int64(nil), test.samples...)
			require.Equal(t, test.want, percentile(test.samples, test.p))
			require.Equal(t, before, test.samples, "the samples keep their order")
		})
	}
}

func TestMillisecondsAreJSONNumbers(t *testing.T) {
	text, err := json.Marshal(map[string]ms{"p50_ms": ms(1234567 * time.Nanosecond)})
	require.NoError(t, err)
	require.JSONEq(t, `{"p50_ms": 1.23}`, string(text))
}

func TestRatioOfNothingIsLeftOut(t *testing.T) {
	require.Nil(t, ratio(1, 0))
	require.Equal(t, 1.333, *ratio(4, 3))
}
