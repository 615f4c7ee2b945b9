package logship

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dormouse-dev/dormouse/internal/logfile"
)

// What CloudWatch Logs takes (PutLogEvents in its API reference). Its own bound for an event is 1 MiB by now;
// compatible services keep to the older one.
const (
	maxEvent      = 256 << 10 // bytes of an event, with its overhead
	maxBatch      = 1 << 20   // bytes of a batch, with that of all
	eventOverhead = 26        // bytes
	maxEvents     = 10_000
	maxSpan       = 24 * time.Hour // from the first event of a batch to the last
	maxAge        = 14 * 24 * time.Hour
	maxAhead      = 2 * time.Hour
	timeSlack     = time.Hour // for clocks that differ and for the way there
)

// event is one event of a batch.
type event struct {
	at   int64 // Unix milliseconds
	text string
}

// batches makes of lines what may be sent at once, in the order of their times. Guests tell times: those that the service
// would refuse become now. Lines without text have no place there.
func batches(lines []logfile.Line, now time.Time) (all [][]event) {
	events := make([]event, 0, len(lines))
	for _, line := range lines {
		at := line.At
		if at.Before(now.Add(timeSlack-maxAge)) || at.After(now.Add(maxAhead-timeSlack)) {
			at = now
		}
		for text := range pieces(line) {
			events = append(events, event{at.UnixMilli(), text})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	from, size := 0, 0
	for i, e := range events {
		more := len(e.text) + eventOverhead
		if i > from && (i-from == maxEvents || size+more > maxBatch || e.at-events[from].at >= maxSpan.Milliseconds()) {
			all = append(all, events[from:i])
			from, size = i, 0
		}
		size += more
	}
	if from < len(events) {
		all = append(all, events[from:])
	}
	return all
}

// pieces are the texts that a line is sent as: valid, and no longer than one may be.
func pieces(line logfile.Line) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		text := strings.ToValidUTF8(message(line), string(utf8.RuneError))
		for len(text) > 0 {
			n := len(text)
			if n > maxEvent-eventOverhead {
				n = maxEvent - eventOverhead
				for !utf8.RuneStart(text[n]) {
					n--
				}
			}
			if !yield(text[:n]) {
				return
			}
			text = text[n:]
		}
	}
}

// message is what of a line is sent: what the app wrote, as it is, and what others have to say marked as theirs.
func message(line logfile.Line) string {
	switch line.Stream {
	case "stdout", "stderr", buildStream:
		return string(line.Text)
	default:
		return "[" + line.Stream + "] " + string(line.Text)
	}
}
