package endpoint

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/microvm"
)

// MicroVMs makes the VMs of a manager the ones behind a Server's endpoints.
func MicroVMs(manager *microvm.Manager) VMs { return microVMs{manager} }

type microVMs struct{ manager *microvm.Manager }

func (m microVMs) ByEndpoint(id string) (VM, bool) {
	vm, ok := m.manager.ByEndpoint(id)
	return microVM{vm}, ok
}

func (m microVMs) ByAddr(addr netip.Addr) (VM, bool) {
	vm, ok := m.manager.ByAddr(addr)
	return microVM{vm}, ok
}

// Names tells which host names in a domain are those of VMs.
func Names(vms VMs, domain string) func(host string) bool {
	return func(host string) bool {
		id, ok := endpointID(host, domain)
		if ok {
			_, ok = vms.ByEndpoint(id)
		}
		return ok
	}
}

type microVM struct{ *microvm.VM }

// AcceptsHTTP implements VM (spec/behaviour.md 6).
func (m microVM) AcceptsHTTP() bool { return acceptsHTTP(m.Ingress()) }

// AcceptsShell implements VM.
func (m microVM) AcceptsShell() bool { return acceptsShell(m.Ingress()) }

func acceptsHTTP(ingress []string) bool  { return accepts(ingress, "HTTP_INGRESS", "ALL_INGRESS") }
func acceptsShell(ingress []string) bool { return accepts(ingress, "SHELL_INGRESS") }

// accepts tells whether one of the named connectors is there. RunMicrovm takes managed ones only for
// ingress. NO_INGRESS closes whatever is beside it; which ports are open the token says in any case.
func accepts(ingress []string, names ...string) bool {
	open := false
	for _, connector := range ingress {
		name := connector[strings.LastIndexByte(connector, ':')+1:]
		if name == "NO_INGRESS" {
			return false
		}
		open = open || slices.Contains(names, name)
	}
	return open
}

// Lease implements VM.
func (m microVM) Lease(ctx context.Context) (Lease, error) {
	l, err := m.VM.Lease(ctx)
	if err != nil {
		return nil, err
	}
	return lease{l}, nil
}

type lease struct{ *microvm.Lease }

// Exec implements Lease.
func (l lease) Exec(ctx context.Context, r guest.ExecRequest) (Process, error) {
	p, err := l.Lease.Exec(ctx, r)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Touch implements Lease: any traffic counts the same.
func (l lease) Touch(int) { l.Lease.Touch() }
