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

type microVM struct{ *microvm.VM }

// AcceptsHTTP implements VM (spec/behaviour.md 6).
func (m microVM) AcceptsHTTP() bool { return m.has(":HTTP_INGRESS") || m.has(":ALL_INGRESS") }

// AcceptsShell implements VM.
func (m microVM) AcceptsShell() bool { return m.has(":SHELL_INGRESS") }

func (m microVM) has(connector string) bool {
	return slices.ContainsFunc(m.Ingress(), func(arn string) bool { return strings.HasSuffix(arn, connector) })
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
