package netstack

import (
	"net/netip"
	"strings"
)

// Denial is one refused connection, question or answer.
type Denial struct {
	// Destination is zero for a question about a name; its port is 0 for an answer.
	Destination netip.AddrPort
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
	case !d.Destination.IsValid():
		text.WriteString("refused to resolve " + d.Name)
	case d.Destination.Port() == 0:
		text.WriteString("refused the address " + d.Destination.Addr().String() + " of " + d.Name)
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
