package endpoint

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// DefaultPort is the guest port of a request that names none (spec/behaviour.md 7.2).
const DefaultPort = 8080

// PortRange is an inclusive range of TCP ports of the guest. It travels in tokens as [first,last].
type PortRange [2]uint16

// AllPorts is what a token's {"allPorts":{}} means.
var AllPorts = []PortRange{{1, 65535}}

var errBadPort = errors.New("not a port number from 1 to 65535")

// parsePort reads a port as clients send it: decimal digits only, no sign, no blanks.
func parsePort(s string) (uint16, error) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, errBadPort
		}
	}
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 || len(s) > len("65535") {
		return 0, errBadPort
	}
	return uint16(port), nil
}

func covers(ranges []PortRange, port uint16) bool {
	for _, r := range ranges {
		if r[0] <= port && port <= r[1] {
			return true
		}
	}
	return false
}

// merge sorts ranges and joins those that touch, which keeps tokens short.
func merge(ranges []PortRange) ([]PortRange, error) {
	sorted := slices.Clone(ranges)
	for _, r := range sorted {
		if r[0] == 0 || r[1] < r[0] {
			return nil, fmt.Errorf("port range %d-%d is empty or contains port 0", r[0], r[1])
		}
	}
	slices.SortFunc(sorted, func(a, b PortRange) int { return int(a[0]) - int(b[0]) })
	var merged []PortRange
	for _, r := range sorted {
		if n := len(merged); n > 0 && int(r[0]) <= int(merged[n-1][1])+1 {
			merged[n-1][1] = max(merged[n-1][1], r[1])
			continue
		}
		merged = append(merged, r)
	}
	return merged, nil
}
