package endpoint

import (
	"context"
	"net/netip"
	"strings"

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

// AcceptsHTTP implements VM (spec/behaviour.md 6). RunMicrovm takes managed connectors only for ingress.
func (m microVM) AcceptsHTTP() bool { return acceptsHTTP(m.Ingress()) }

// acceptsHTTP tells what connectors that are used together mean: NO_INGRESS closes whatever is
// beside it, and SHELL_INGRESS opens shells alone. Which ports are open the token says in any case.
func acceptsHTTP(ingress []string) bool {
	open := false
	for _, connector := range ingress {
		switch name := connector[strings.LastIndexByte(connector, ':')+1:]; name {
		case "NO_INGRESS":
			return false
		case "HTTP_INGRESS", "ALL_INGRESS":
			open = true
		}
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

// Touch implements Lease: any traffic counts the same.
func (l lease) Touch(int) { l.Lease.Touch() }

// Release implements Lease; a request in flight does not keep a microVM awake (spec/behaviour.md 10).
func (l lease) Release() {}
