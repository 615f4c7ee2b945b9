package endpoint

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Limit bounds the traffic of one VM. Zero bounds nothing.
type Limit struct {
	Connections int // of clients, at once
	Requests    int // per second
	Bandwidth   int // bytes per second, both directions together
}

// Limits are those of the VMs of each memory class, in MiB. Without any, nothing is limited.
type Limits map[int]Limit

// awsLimits are the service's (spec/behaviour.md 7.5). It publishes requests per second for two classes
// only, 40 with 4 vCPU and 160 with 16: 10 for each vCPU, which is taken for the others. What its "MB"
// is, it does not say; measured were 4.54 million bytes where it says 4, so it is the larger one.
var awsLimits = Limits{
	512:  {8, 10, 1 << 20},
	1024: {16, 20, 2 << 20},
	2048: {32, 40, 4 << 20},
	4096: {64, 80, 8 << 20},
	8192: {128, 160, 16 << 20},
}

// maxLimit bounds what can be configured, so that nothing overflows.
const maxLimit = 1_000_000

// ParseLimits reads the items of --vm-limits; later ones win.
func ParseLimits(items []string) (Limits, error) {
	limits := Limits{}
	for _, item := range items {
		if item == "aws" {
			limits = maps.Clone(awsLimits)
			continue
		}
		if err := limits.set(item); err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(limits, func(_ int, l Limit) bool { return l == Limit{} })
	return limits, nil
}

// limitNames are the items, as NAME=N.
var limitNames = []string{"bandwidth-mb", "connections", "requests"}

// set applies one item to VMs of all classes.
func (l Limits) set(item string) error {
	name, value, _ := strings.Cut(item, "=")
	if !slices.Contains(limitNames, name) {
		return fmt.Errorf("%q is neither aws nor NAME=N with one of the names %s", item, strings.Join(limitNames, ", "))
	}
	n := 0
	if value != "off" {
		var err error
		if n, err = strconv.Atoi(value); err != nil || n < 1 || n > maxLimit {
			return fmt.Errorf("%s: it is a number from 1 to %d, or off", item, maxLimit)
		}
	}
	for class := range awsLimits {
		limit := l[class]
		switch name {
		case "connections":
			limit.Connections = n
		case "requests":
			limit.Requests = n
		case "bandwidth-mb":
			limit.Bandwidth = n << 20
		}
		l[class] = limit
	}
	return nil
}
