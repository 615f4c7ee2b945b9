package netstack

import "net/netip"

// Policy is what a guest may reach. The zero value is nothing.
type Policy struct {
	// Internet allows public addresses.
	Internet bool
	// AllowPrivate lists private, carrier-grade and unique-local ranges the guest may reach;
	// it never opens loopback, link-local, multicast or the host's own addresses.
	AllowPrivate []netip.Prefix
}

// Rule names why a destination was refused, in the VM's events.
type Rule string
