package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Network is a named network that customers' connectors can lead into (docs/egress.md).
type Network struct {
	Name string `yaml:"name"`
	// Subnets are the ids of subnets by which connectors name the network.
	Subnets []string `yaml:"subnets"`
	// Accounts may use the network; none means all.
	Accounts []string `yaml:"accounts"`
	Internet bool     `yaml:"internet"`
	// DNS are servers, IP or IP:port; none means the host's resolver.
	DNS   []string      `yaml:"dns"`
	Allow []NetworkRule `yaml:"allow"`
	Deny  []NetworkRule `yaml:"deny"`
}

// NetworkRule is one rule of a network: all members that are given must fit.
type NetworkRule struct {
	CIDRs  []string `yaml:"cidrs"`
	Hosts  []string `yaml:"hosts"`
	Ports  []string `yaml:"ports"` // "443" or "8000-8099"; none means all
	Opaque bool     `yaml:"opaque"`
}

// Ranges are the rule's CIDRs, of a file that has been checked.
func (r NetworkRule) Ranges() []netip.Prefix { return parsed(r.CIDRs, parseRange) }

// PortRanges are the first and the last port of each of the rule's ports, of a file that has been checked.
func (r NetworkRule) PortRanges() [][2]uint16 { return parsed(r.Ports, parsePorts) }

// HostNames are the rule's hosts in lower case.
func (r NetworkRule) HostNames() []string { return parsed(r.Hosts, parseHost) }

// Servers are the network's DNS servers, of a file that has been checked.
func (n Network) Servers() []netip.AddrPort { return parsed(n.DNS, parseServer) }

func parsed[T any](texts []string, parse func(string) (T, error)) (all []T) {
	for _, text := range texts {
		if value, err := parse(text); err == nil {
			all = append(all, value)
		}
	}
	return all
}

func (f File) checkNetworks() error {
	names, subnets := map[string]bool{}, map[string]string{}
	for i, n := range f.Networks {
		at := fmt.Sprintf("networks[%d]", i)
		if names[n.Name] {
			return faultf(at+".name", "there is a network %q already", n.Name)
		}
		names[n.Name] = true
		if err := n.check(at); err != nil {
			return err
		}
		for j, subnet := range n.Subnets {
			if other, taken := subnets[subnet]; taken {
				return faultf(fmt.Sprintf("%s.subnets[%d]", at, j), "subnet %s leads into network %q already", subnet, other)
			}
			subnets[subnet] = n.Name
		}
	}
	return nil
}

// Compiled when a file is read: verbs of the command line need none of them.
var (
	networkName = lazily(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$`)
	subnetID    = lazily(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}$`)
	accountID   = lazily(`^[0-9]{12}$`)
	hostPattern = lazily(`^(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)
)

func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

func (n Network) check(at string) error {
	if !networkName().MatchString(n.Name) {
		return faultf(at+".name", "a network has a name of up to 64 letters, digits, dashes and underscores; %q is none", n.Name)
	}
	if len(n.Subnets) == 0 {
		return faultf(at, "network %q has no subnets: no connector could lead into it", n.Name)
	}
	err := cmp.Or(
		notEmpty(at+".accounts", n.Accounts, "every account"),
		each(at+".subnets", n.Subnets, matching(subnetID(), "the id of a subnet")),
		each(at+".accounts", n.Accounts, matching(accountID(), "the twelve digits of an account")),
		each(at+".dns", n.DNS, checking(parseServer)),
	)
	if err != nil {
		return err
	}
	for i, rule := range n.Allow {
		if err := rule.checkAllow(fmt.Sprintf("%s.allow[%d]", at, i)); err != nil {
			return err
		}
	}
	for i, rule := range n.Deny {
		if err := rule.checkDeny(fmt.Sprintf("%s.deny[%d]", at, i), n); err != nil {
			return err
		}
	}
	return nil
}

func (r NetworkRule) checkAllow(at string) error {
	switch {
	case len(r.CIDRs) == 0 && len(r.Hosts) == 0:
		return faultf(at, "what is allowed has cidrs, hosts or both; for all public addresses write internet: true, or cidrs: [0.0.0.0/0] with ports")
	case r.Opaque && len(r.Hosts) == 0:
		return faultf(at+".opaque", "only connections to hosts are looked into")
	}
	return r.checkMembers(at)
}

func (r NetworkRule) checkDeny(at string, n Network) error {
	named := slices.ContainsFunc(n.Allow, func(a NetworkRule) bool { return len(a.Hosts) > 0 })
	switch {
	case len(r.CIDRs)+len(r.Hosts)+len(r.Ports) == 0:
		return faultf(at, "what is denied has cidrs, hosts or ports")
	case len(r.CIDRs) > 0 && len(r.Hosts) > 0:
		return faultf(at, "what is denied has either cidrs or hosts")
	case len(r.Hosts) > 0 && (n.Internet || !named):
		return faultf(at+".hosts", "hosts are exceptions from allowed hosts: where addresses are allowed without a name, denying a name has no effect")
	case r.Opaque:
		return faultf(at+".opaque", "what is denied is not looked into")
	}
	return r.checkMembers(at)
}

func (r NetworkRule) checkMembers(at string) error {
	return cmp.Or(
		notEmpty(at+".ports", r.Ports, "all ports"),
		each(at+".cidrs", r.CIDRs, checking(parseRange)),
		each(at+".hosts", r.Hosts, checking(parseHost)),
		each(at+".ports", r.Ports, checking(parsePorts)),
	)
}

// notEmpty refuses a list without items where one that is left out means all there is: who writes it means the opposite.
func notEmpty(at string, items []string, all string) error {
	if items != nil && len(items) == 0 {
		return faultf(at, "an empty list is none; leave it out for %s", all)
	}
	return nil
}

// each checks the items of a list and says which one is wrong.
func each(at string, items []string, check func(string) error) error {
	for i, item := range items {
		if err := check(item); err != nil {
			return faultf(fmt.Sprintf("%s[%d]", at, i), "%w", err)
		}
	}
	return nil
}

func matching(form *regexp.Regexp, what string) func(string) error {
	return func(text string) error {
		if !form.MatchString(text) {
			return fmt.Errorf("%q is not %s", text, what)
		}
		return nil
	}
}

func checking[T any](parse func(string) (T, error)) func(string) error {
	return func(text string) error {
		_, err := parse(text)
		return err
	}
}

func parseRange(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, addrErr := netip.ParseAddr(text)
		if addrErr != nil {
			return prefix, fmt.Errorf("%q is neither an address nor a range like 10.1.0.0/16", text)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	first := prefix.Addr()
	switch {
	case !first.Is4():
		return prefix, fmt.Errorf("%s: guests have IPv4 only", text)
	case prefix != prefix.Masked():
		return prefix, fmt.Errorf("%s is not the beginning of its range, which is %s", text, prefix.Masked())
	case first.IsLoopback(), first.IsLinkLocalUnicast(), first.IsMulticast(), first.IsUnspecified() && prefix.Bits() >= 8:
		return prefix, fmt.Errorf("%s: no network opens loopback, link-local, multicast or unspecified addresses", text)
	}
	return prefix, nil
}

func parsePorts(text string) (ports [2]uint16, err error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	for i, number := range []string{first, last} {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			return ports, fmt.Errorf("%q is neither a port from 1 to 65535 nor a range like 8000-8099", text)
		}
		ports[i] = uint16(n)
	}
	if ports[0] > ports[1] {
		return ports, fmt.Errorf("%q ends before it begins", text)
	}
	return ports, nil
}

func parseHost(text string) (string, error) {
	name := strings.ToLower(text)
	if _, err := netip.ParseAddr(name); err == nil {
		return "", fmt.Errorf("%s is an address: it belongs into cidrs", text)
	}
	if len(name) > 253 || !hostPattern().MatchString(name) {
		return "", fmt.Errorf("%q is neither a host name nor *. and a host name", text)
	}
	return name, nil
}

func parseServer(text string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr, 53), nil
	}
	server, err := netip.ParseAddrPort(text)
	if err != nil || server.Port() == 0 {
		return server, fmt.Errorf("%q is neither the address of a DNS server nor one with a port", text)
	}
	return server, nil
}
