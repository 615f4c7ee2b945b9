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

// AcceptsHTTP implements VM (spec/behaviour.md 6).
func (m microVM) AcceptsHTTP() bool {
	for _, connector := range m.Ingress() {
		if strings.HasSuffix(connector, ":HTTP_INGRESS") || strings.HasSuffix(connector, ":ALL_INGRESS") {
			return true
		}
	}
	return false
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
