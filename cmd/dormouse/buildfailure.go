package main

import "strings"

// failureLines is how many lines of a failed step are shown.
const failureLines = 15

// failingStep finds in the end of a failed build's log the step of the Dockerfile that failed and what
// that wrote last. Where no step failed (a hook timed out, the app ended), the step is "" and the lines
// are the last that the app or the build wrote.
//
// BuildKit ends the plain form of its progress with this (util/progress/progressui):
//
//	------
//	 > [2/3] RUN make:
//	0.123 cc: not found
//	------
func failingStep(tail []string) (step string, lines []string) {
	begin, end := -1, len(tail)
	for i, line := range tail {
		switch {
		case strings.HasPrefix(line, " > ") && i > 0 && tail[i-1] == "------":
			step, begin, end = strings.TrimSuffix(strings.TrimPrefix(line, " > "), ":"), i+1, len(tail)
		case line == "------" && begin >= 0 && end == len(tail):
			end = i
		}
	}
	if begin < 0 {
		return "", lastOf(withoutNotes(tail))
	}
	return step, lastOf(tail[begin:end])
}

func withoutNotes(tail []string) (lines []string) {
	for _, line := range tail {
		if !strings.HasPrefix(line, noteMark) {
			lines = append(lines, line)
		}
	}
	return lines
}

func lastOf(lines []string) []string { return lines[max(0, len(lines)-failureLines):] }
