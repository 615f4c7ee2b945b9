package netstack

import (
	"net/netip"
	"strings"
)

// Denial is one refused connection, question or answer.
type Denial struct {
	// Destination is zero for a question about a name, and for an answer: what a name means inside the host's
	// networks is not the business of those who read of refusals.
	Destination netip.AddrPort
	Answer      bool // it is an address that was the answer for a name
	// Name is what the destination is called, "" if that is not known.
	Name string
	Rule Rule
	// Network is the one that refuses, where it is one of several that might have allowed it.
	Network string
}

// String tells it in one line. Names come from the guest: their length is bounded, what they hold is not.
func (d Denial) String() string {
	var text strings.Builder
	switch {
	case d.Answer:
		text.WriteString("refused an address of " + d.Name)
	case !d.Destination.IsValid():
		text.WriteString("refused to resolve " + d.Name)
	default:
		text.WriteString("refused " + d.Destination.String())
		if d.Name != "" {
			text.WriteString(" (" + d.Name + ")")
		}
	}
	text.WriteString(": " + string(d.Rule))
	if d.Network != "" {
		text.WriteString(" in network " + d.Network)
	}
	return text.String()
}
