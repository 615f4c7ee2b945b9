// Package endpoint is the HTTPS door of every microVM: listeners and certificates, tokens, and the reverse proxy that parks requests while their VM wakes.
package endpoint

import (
	"context"
	"net"
	"net/netip"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/microvm"
)

// VMs finds the microVM behind an endpoint. Look-ups are on the path of every request: a map, no I/O.
type VMs interface {
	// ByEndpoint takes an endpoint UUID in lower case, the first label of the host (address mode "domain").
	ByEndpoint(id string) (VM, bool)
	// ByAddr takes the 127.x.y.z address the client connected to (address mode "ip").
	ByAddr(addr netip.Addr) (VM, bool)
}

// VM is one microVM in any state. A VM may stay findable after its end; Lease then reports ErrGone.
type VM interface {
	// ID is microvm-<uuid>, what tokens are bound to.
	ID() string
	// MemoryClass is the VM's minimumMemoryInMiB, by which its traffic is limited.
	MemoryClass() int
	// AcceptsHTTP tells whether the ingress connectors allow endpoint traffic (spec/behaviour.md 6).
	AcceptsHTTP() bool
	// AcceptsShell tells whether they allow shells (spec/behaviour.md 6).
	AcceptsShell() bool
	// Lease returns when the VM serves, waking it where that is allowed. It blocks while the VM is
	// PENDING, SUSPENDING or waking, until ctx ends or a limit of the VM's own is reached.
	// Errors: ErrGone, ErrSuspended, ErrWakeFailed, ErrBusy, or ctx's.
	// It is called only for requests whose token is valid for this VM and port.
	Lease(ctx context.Context) (Lease, error)
}

// Lease is the use of a serving VM by one request. It keeps the VM from being suspended for a moment
// only (an open but silent stream must not, spec/behaviour.md 10): it tells that a request is open.
//
// Dial and Touch also happen after Release: connections to the guest are pooled within one
// generation and outlive the request that dialled them.
type Lease interface {
	// Generation differs after every launch and resume of this VM. Connections are never reused
	// across generations.
	Generation() uint64
	// Stale tells whether the VM no longer serves this generation, or is about to stop.
	Stale() bool
	// Dial connects to a TCP port of the guest. The connection should have CloseWrite.
	// Errors: ErrRefused when nothing listens there (the first Read of the connection may report it
	// instead), ErrStale when the VM no longer serves this generation.
	Dial(ctx context.Context, port uint16) (net.Conn, error)
	// Exec runs a shell, or a command, beside the app of the guest. Its bytes are not reported to Touch:
	// whether they count as use is the microVM's configuration. Errors: ErrStale, ErrProcesses, a guest.AgentError.
	Exec(ctx context.Context, r guest.ExecRequest) (Process, error)
	// Touch reports bytes that moved between a client and the guest, in either direction: it resets
	// the idle timer. It is called for every read and write, so it must cost next to nothing.
	Touch(bytes int)
	// Answered reports that the response has begun, and how it will end.
	Answered(microvm.Response)
	// Release ends the use. It is called exactly once.
	Release()
}

// Process is a shell or a command in a guest; guest.Process says what its methods do.
type Process interface {
	Input(data []byte) error
	EndInput() error
	Resize(cols, rows uint16) error
	Signal(number uint8) error
	Next() (guest.ExecOutput, error)
	HungUp() <-chan struct{}
	Cause() error
	Close() error
}

// What keeps a request from reaching the guest. The answers to clients are in answer.go.
var (
	ErrGone       = microvm.ErrGone
	ErrSuspended  = microvm.ErrSuspended
	ErrWakeFailed = microvm.ErrWakeFailed
	ErrBusy       = microvm.ErrBusy
	ErrRefused    = guest.ErrRefused
	ErrStale      = microvm.ErrStale
	ErrAsleep     = microvm.ErrAsleep
	ErrProcesses  = microvm.ErrProcesses
)
