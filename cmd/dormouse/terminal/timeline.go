package terminal

import (
	"fmt"
	"strings"
	"time"
)

// timelineWidth is how many characters the whole of an operation is wide.
const timelineWidth = 40

// Phase is a part of an operation that took some time.
type Phase struct {
	Name  string
	Spent time.Duration
}

// Timeline draws consecutive phases as bars that begin where the one before ended.
func (s *Screen) Timeline(phases []Phase) {
	var total, before time.Duration
	width := 0
	for _, p := range phases {
		total += p.Spent
		width = max(width, len(p.Name))
	}
	for _, p := range phases {
		from := column(before, total)
		before += p.Spent
		to := column(before, total)
		bar := strings.Repeat("█", to-from)
		if to == from {
			bar = "▏"
			from = min(from, timelineWidth-1)
		}
		s.Printf("  %-*s %9s  %s%s\n", width, SafeLine(p.Name), Seconds(p.Spent), strings.Repeat(" ", from), s.Paint(Asleep, bar))
	}
}

func column(at, total time.Duration) int {
	if total <= 0 {
		return 0
	}
	return int((int64(at)*timelineWidth + int64(total)/2) / int64(total))
}

// Total words the sum of phases.
func Total(phases []Phase) string {
	var total time.Duration
	for _, p := range phases {
		total += p.Spent
	}
	return Seconds(total)
}

// PhaseWords words phases on one line: queue 0.1 ms, vmm 20 ms.
func PhaseWords(phases []Phase) string {
	words := make([]string, len(phases))
	for i, p := range phases {
		words[i] = fmt.Sprintf("%s %s", SafeLine(p.Name), Seconds(p.Spent))
	}
	return strings.Join(words, ", ")
}
