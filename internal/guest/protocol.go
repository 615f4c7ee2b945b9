// Package guest is the protocol between the daemon and dormouse-guest, the agent that is PID 1 inside every microVM, and its host-side client.
package guest

import "time"

// Addresses inside every microVM. Each VM has a user-space network of its own,
// so all of them use the same ones. They equal QEMU's own user-network defaults,
// so that a bare QEMU can restore the same snapshot (bench/ does, as the floor).
const (
	GuestIP    = "10.0.2.15"
	GuestMAC   = "52:54:00:12:34:56"
	GatewayIP  = "10.0.2.2"
	GatewayMAC = "52:55:0a:00:02:02"
	ResolverIP = "10.0.2.3"
	PrefixBits = 24

	// MTU is that of the guest's network card. The link is a socket, so frames may be large: each costs guest,
	// VMM and daemon about the same whatever its size, and a download is 3 to 4 times as fast as with 1500 under
	// software emulation. QEMU takes frames up to 68 KiB (NET_BUFSIZE).
	MTU = 32000

	// AgentPort is where the agent listens, on GuestIP only, and accepts GatewayIP only.
	AgentPort = 1
)

// Every connection to the agent starts with a preamble of PreambleSize bytes:
//
//	magic "DMG1" | op (1) | zero (1) | port (2, big endian) | secret (32)
//
// A wrong magic, op or secret closes the connection without an answer.
const (
	Magic        = "DMG1"
	SecretSize   = 32
	PreambleSize = 4 + 1 + 1 + 2 + SecretSize
)

// Op says what a connection is for.
type Op byte

const (
	// OpForward connects to 127.0.0.1:port (then [::1]:port) in the guest. The agent answers one
	// ForwardStatus byte, then both directions are raw bytes, half-close included.
	// The host may send request bytes right after the preamble, without waiting for the status.
	OpForward Op = 1
	// OpCall carries frames in turn: request, reply, request, reply, … until either side closes.
	// A frame is a length (4 bytes, big endian, at most MaxFrame) and that many bytes of JSON.
	OpCall Op = 2
	// OpRestore carries one RestoreRequest frame and one RestoreReply frame in a compact binary
	// form: it runs first after every restore, when translating cold code costs most.
	// Between the two the agent asks for the time with one ClockRequest byte, and the host answers with
	// its wall clock (nanoseconds since 1970, 8 bytes, big endian). A time sent with the request would be
	// tens of milliseconds old when it is set; of an answer the agent knows how old it is. It asks again,
	// at most MaxClockRequests times in all, when an answer took long, and sends ClockDone before the reply.
	OpRestore Op = 3
	// OpEvents streams Event frames (JSON) from the agent until the connection closes. What the
	// app wrote since its start and still is in the agent's bounded buffer comes first.
	OpEvents Op = 4
	// OpHook carries one HookRequest frame and one HookReply frame in a compact binary form: the
	// suspend hook is part of every suspend, and finds its code as cold as a restore does.
	OpHook Op = 5
	// OpExec runs a process beside the app: one ExecRequest frame (JSON), then frames of ExecFrame.
	// The process and its session end when the connection does. Nothing of it is hot.
	OpExec Op = 6
)

// MaxFrame bounds every frame in both directions, in bytes.
const MaxFrame = 1 << 20

// What the agent says during OpRestore before its reply.
const (
	ClockRequest byte = 'T'
	ClockDone    byte = 'D'

	MaxClockRequests = 4
)

// ForwardStatus is the agent's one-byte answer to OpForward.
type ForwardStatus byte

const (
	ForwardOK      ForwardStatus = 0
	ForwardRefused ForwardStatus = 1 // nothing listens on that port
	ForwardFailed  ForwardStatus = 2
)

// Call is a request frame of OpCall: exactly one member is set.
type Call struct {
	Boot    *BootRequest    `json:"boot,omitempty"`
	Quiesce *QuiesceRequest `json:"quiesce,omitempty"`
}

// CallReply answers a Call: Error is a text for people, "" when it went well.
type CallReply struct {
	Error string `json:"error,omitempty"`
}

// BootRequest starts the app of an image, once, in a VM that was booted (not restored).
type BootRequest struct {
	// Args is ENTRYPOINT followed by CMD; Env is KEY=VALUE; User is the Dockerfile's USER
	// ("", name, uid, name:group, uid:gid), resolved in the image's /etc/passwd and /etc/group.
	Args     []string `json:"args"`
	Env      []string `json:"env"`
	Dir      string   `json:"dir"`
	User     string   `json:"user"`
	Hostname string   `json:"hostname"`
	// Secret replaces the one from the kernel command line (SecretSize bytes).
	Secret []byte `json:"secret"`
	// UnixNanos is the wall clock now.
	UnixNanos int64 `json:"unixNanos"`
	// AllCapabilities gives the app every capability, a writable cgroup2 tree and /dev/fuse
	// (additionalOsCapabilities: ALL); otherwise it gets the container default set, spec/behaviour.md 11.
	AllCapabilities bool `json:"allCapabilities"`
	// Volumes are absolute paths in the app's root that must live on the writable disk itself
	// and not on the overlay (the builder's /var/lib/buildkit needs that).
	Volumes []string `json:"volumes"`
}

// QuiesceRequest makes the guest as small as it gets before an image snapshot: sync, drop caches, trim.
type QuiesceRequest struct{}

// HookRequest calls one lifecycle hook of the app on 127.0.0.1 (spec/behaviour.md 5).
type HookRequest struct {
	Name    string // ready, validate, run, resume, suspend, terminate
	Port    int
	Timeout time.Duration
	Body    []byte // JSON, or none
}

// HookReply is what became of one hook call.
type HookReply struct {
	Status   int // of HTTP, 0 if there was none
	TimedOut bool
	Error    string // connection refused, bad answer, …
}

// RestoreRequest makes a restored VM itself again, before any user request: wall clock, kernel
// random pool, secret, hostname, machine-id, and then the run or resume hook.
type RestoreRequest struct {
	UnixNanos int64 // 0: the client takes its clock when the agent asks; never part of the frame
	Entropy   [64]byte
	Secret    [SecretSize]byte // replaces the one the preamble was checked against
	MachineID [16]byte         // kept out of the request (all zero) on a resume: it stays
	Hostname  string           // "" keeps the present one
	Hook      HookRequest      // Name "" = no hook
}

// RestoreReply tells how it went. Durations are measured in the guest.
type RestoreReply struct {
	Error   string // the guest could not be fixed up; the VM must not serve
	Hook    HookReply
	Agent   time.Duration // clock, entropy, names
	HookRan time.Duration
}

// Event is one frame of OpEvents: exactly one member is set.
type Event struct {
	Log  *LogEvent  `json:"log,omitempty"`
	Exit *ExitEvent `json:"exit,omitempty"`
}

// LogEvent is a piece of what the app wrote, at most 32 KiB.
type LogEvent struct {
	Stream    string `json:"stream"` // stdout, stderr, agent
	UnixNanos int64  `json:"unixNanos"`
	Data      []byte `json:"data"`
	Dropped   int64  `json:"dropped,omitempty"` // bytes lost before this piece
}

// ExitEvent says that the app's main process ended; 128+signal when a signal ended it.
type ExitEvent struct {
	Code int `json:"code"`
}
