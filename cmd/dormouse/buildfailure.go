package main

import (
	"slices"
	"strings"
)

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

// containerBuildFailed is what the API says of every Dockerfile that fails (spec/behaviour.md 4.2).
const containerBuildFailed = "The container image build failed."

// failureCause is what BuildKit's last word says that went wrong, without the command that is in the step
// already; "" if it did not fail.
//
//	ERROR: failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 2
func failureCause(tail []string) string {
	for _, line := range slices.Backward(tail) {
		cause, is := strings.CutPrefix(line, "ERROR: ")
		if !is {
			continue
		}
		if _, status, ended := strings.Cut(cause, " did not complete successfully: "); ended {
			return cut(status)
		}
		return cut(strings.TrimPrefix(cause, "failed to solve: "))
	}
	return ""
}

// cut shortens a line that is part of another.
func cut(line string) string {
	const most = 120
	if letters := []rune(line); len(letters) > most {
		return string(letters[:most]) + "…"
	}
	return line
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
