package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// percentile is the p-th percentile by the nearest-rank method: the smallest sample that at least
// p percent of the samples do not exceed. It is always one of the samples. Zero samples give 0.
func percentile[T time.Duration | int64](samples []T, p float64) T {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// ms is a duration in milliseconds, to a hundredth.
type ms time.Duration

// MarshalJSON writes a plain number.
func (d ms) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%.2f", d.float()), nil }

func (d ms) float() float64 { return float64(d) / float64(time.Millisecond) }

func (d ms) String() string { return fmt.Sprintf("%.1f ms", d.float()) }

// ratio is a by b to a thousandth, nil where b is nothing.
func ratio(a, b float64) *float64 {
	if b <= 0 {
		return nil
	}
	r := math.Round(a/b*1000) / 1000
	return &r
}
