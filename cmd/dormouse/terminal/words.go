package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bytes words a size: 512 B, 3.4 MiB, 2 GiB.
func Bytes(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " B"
	}
	size := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB"} {
		size /= 1 << 10
		if size < 1000 {
			return short(size) + " " + unit
		}
	}
	return short(size/(1<<10)) + " TiB"
}

// Seconds words how long something took: 0.4 ms, 214 ms, 23.4 s, 3m20s.
func Seconds(d time.Duration) string {
	switch {
	case d < time.Second:
		return short(float64(d)/float64(time.Millisecond)) + " ms"
	case d < 100*time.Second:
		return short(d.Seconds()) + " s"
	default:
		return Span(d)
	}
}

// short has one digit after the point where that tells something.
func short(f float64) string {
	if f >= 100 {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
}

// Span words a length of time of which only the larger parts matter: 45s, 5m, 2h10m, 3d.
func Span(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return parts(d/time.Minute, "m", d%time.Minute/time.Second, "s")
	case d < 48*time.Hour:
		return parts(d/time.Hour, "h", d%time.Hour/time.Minute, "m")
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

func parts(large time.Duration, largeUnit string, small time.Duration, smallUnit string) string {
	if small == 0 {
		return fmt.Sprintf("%d%s", large, largeUnit)
	}
	return fmt.Sprintf("%d%s%d%s", large, largeUnit, small, smallUnit)
}

// Ago words when something was.
func Ago(then, now time.Time) string {
	if then.IsZero() {
		return ""
	}
	if now.Sub(then) < time.Second {
		return "just now"
	}
	return Span(now.Sub(then)) + " ago"
}
