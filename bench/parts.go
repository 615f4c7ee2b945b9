package main

import (
	"fmt"
	"slices"
	"strings"
)

// part is a section of the benchmark that can be run or left out alone.
type part = string

const (
	partRounds     part = "rounds"
	partBurst      part = "burst"
	partSuspended  part = "suspended"
	partControl    part = "control"
	partThroughput part = "throughput"
	partLatency    part = "latency"
	partWebSockets part = "websockets"
	partVolley     part = "volley"
	partSteady     part = "steady"
)

var (
	lifecycleParts = []part{partRounds, partBurst, partSuspended}
	dataParts      = []part{partThroughput, partLatency, partWebSockets, partVolley, partSteady}
	allParts       = slices.Concat(lifecycleParts, []part{partControl}, dataParts)
)

// chosen is the parts to run: all, or those named in only, but for those named in skip.
func chosen(only, skip string) (parts []part, err error) {
	parts = allParts
	if only != "" {
		if parts, err = partList(only); err != nil {
			return nil, fmt.Errorf("-only: %w", err)
		}
	}
	left, err := partList(skip)
	if err != nil {
		return nil, fmt.Errorf("-skip: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return slices.Contains(left, p) }), nil
}

func partList(text string) (list []part, err error) {
	for name := range strings.SplitSeq(text, ",") {
		if name == "" {
			continue
		}
		if !slices.Contains(allParts, name) {
			return nil, fmt.Errorf("%q is none of %s", name, strings.Join(allParts, ", "))
		}
		list = append(list, name)
	}
	return list, nil
}

// does tells whether one of these parts is to be run.
func (o options) does(parts ...part) bool {
	return slices.ContainsFunc(parts, func(p part) bool { return slices.Contains(o.parts, p) })
}
