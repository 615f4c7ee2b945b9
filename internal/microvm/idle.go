package microvm

import "fmt"

// IdleCounts says what besides traffic through its endpoint keeps a microVM from being idle. The zero
// value is the service's own rule: nothing does (spec/behaviour.md 10).
type IdleCounts struct {
	Exec   bool // bytes of commands run by dormouse exec
	Shell  bool // bytes of shells
	Egress bool // bytes of connections the guest made outwards
}

// ParseIdleCounts reads a list of the words exec, shell and egress.
func ParseIdleCounts(words []string) (counts IdleCounts, err error) {
	for _, word := range words {
		switch word {
		case "exec":
			counts.Exec = true
		case "shell":
			counts.Shell = true
		case "egress":
			counts.Egress = true
		default:
			return IdleCounts{}, fmt.Errorf("%q is none of exec, shell and egress", word)
		}
	}
	return counts, nil
}
