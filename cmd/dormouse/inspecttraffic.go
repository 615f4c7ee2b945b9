package main

import (
	"fmt"
	"strings"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

// trafficWords tells what a microVM has moved, "" if that is nothing.
func trafficWords(t extension.Traffic) string {
	var parts []string
	add := func(way string, in, out uint64) {
		if in+out > 0 {
			parts = append(parts, fmt.Sprintf("%s %s in, %s out", way, terminal.Bytes(int64(in)), terminal.Bytes(int64(out))))
		}
	}
	add("endpoint", t.IngressIn, t.IngressOut)
	add("outwards", t.EgressIn, t.EgressOut)
	switch {
	case t.Denied == 1:
		parts = append(parts, "once refused")
	case t.Denied > 1:
		parts = append(parts, fmt.Sprintf("%d times refused", t.Denied))
	}
	return strings.Join(parts, "; ")
}
