// Package store is what Dormouse knows, kept in one SQLite database: accounts, images, versions, builds, microVMs, token keys and events.
package store

import "time"

// Account owns everything else; ids are twelve digits.
type Account struct {
	ID        string
	Name      string
	CreatedAt time.Time
}

// Credential is one access key of an account. The secret is needed in clear to check SigV4.
type Credential struct {
	AccessKeyID string
	Secret      string
	AccountID   string
	CreatedAt   time.Time
}

// Image is a named series of versions, unique per account and region.
type Image struct {
	ID        string // UUID
	AccountID string
	Region    string
	Name      string
	State     string            // spec MicrovmImageState
	Tags      map[string]string // nil when it was created without tags
	CreatedAt time.Time
	UpdatedAt time.Time

	// Found when the image is read, never written: the newest version that is SUCCESSFUL and
	// ACTIVE, and the newest FAILED one; "" when there is none.
	LatestActiveVersion string
	LatestFailedVersion string
}

// Hook is one lifecycle hook of an image version; Timeout is set even when it is not enabled.
type Hook struct {
	Enabled bool
	Timeout time.Duration
}

// Hooks are the lifecycle hooks of an image version (spec/behaviour.md 5). Port 0 means none was given.
type Hooks struct {
	Port      int
	Ready     Hook
	Validate  Hook
	Run       Hook
	Resume    Hook
	Suspend   Hook
	Terminate Hook
}

// ImageConfig is what a version was built with; it never changes.
// The Wire members keep what the API must echo exactly as it was sent (JSON, nil = absent).
type ImageConfig struct {
	Description      string
	HasDescription   bool
	BaseImageARN     string
	BaseImageVersion string // echoed form, "1.0"
	BuildRoleARN     string
	ArtifactURI      string // s3://bucket/key
	MinimumMemoryMiB int    // 512, 1024, 2048, 4096 or 8192
	AllCapabilities  bool
	Environment      map[string]string
	EgressConnectors []string
	Hooks            Hooks
	WireLogging      []byte
	WireHooks        []byte
	WireCPU          []byte
	WireCapabilities []byte
}

// ImageVersion is the immutable result of one build request.
type ImageVersion struct {
	ImageID   string
	Version   string // "1.0"
	Major     int
	State     string // spec MicrovmImageVersionState
	Status    string // ACTIVE or INACTIVE
	Config    ImageConfig
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Build is one build of a version. Sizes are bytes; zero means not known (yet).
type Build struct {
	ID          string // UUID
	ImageID     string
	Version     string
	State       string // spec BuildState
	StateReason string // text for users, spec/behaviour.md 4.2
	ReasonCode  string // documented code, for example ARCHIVE_INVALID
	LogTail     string // the last 50 lines of a failed build
	CodeBytes   int64
	MemoryBytes int64
	DiskBytes   int64
	Phases      []Phase
	CreatedAt   time.Time
	EndedAt     time.Time
}

// IdlePolicy is RunMicrovm's idlePolicy; nil in a MicroVM means never suspend by itself.
type IdlePolicy struct {
	MaxIdle      time.Duration
	MaxSuspended time.Duration
	AutoResume   bool
}

// MicroVM is one VM of one image version, immutable but for its state.
type MicroVM struct {
	ID                string // microvm-<uuid>
	AccountID         string
	Region            string
	ImageID           string
	ImageARN          string
	ImageVersion      string
	State             string // spec MicrovmState
	StateReason       string
	EndpointID        string // UUID, differs from the id's
	EndpointAddr      string // 127.x.y.z in address mode "ip", else ""
	MemoryMiB         int    // its version's memory class
	IngressConnectors []string
	EgressConnectors  []string
	ExecutionRoleARN  string
	Idle              *IdlePolicy
	WireLogging       []byte
	MaximumDuration   time.Duration
	RunHookPayload    string
	HasPayload        bool
	StartedAt         time.Time
	SuspendedAt       time.Time // zero unless SUSPENDED
	TerminatedAt      time.Time // zero unless TERMINATED
	Traffic           Traffic   // as of its last change of state
}

// Traffic is what a microVM has moved since its launch, in bytes of payload as the guest sees it.
type Traffic struct {
	IngressIn  uint64 `json:"ingressIn,omitempty"` // through its endpoint
	IngressOut uint64 `json:"ingressOut,omitempty"`
	EgressIn   uint64 `json:"egressIn,omitempty"` // over connections it made outwards
	EgressOut  uint64 `json:"egressOut,omitempty"`
	Denied     uint64 `json:"denied,omitempty"` // connections, questions and answers that were refused
}

// Connector is a customer's network connector: a way out of microVMs into a network of theirs.
type Connector struct {
	ID           string // nc-<uuid>
	ARN          string
	AccountID    string
	Region       string
	Name         string // unique per account and region
	State        string // spec NetworkConnectorState
	Version      int64
	Config       ConnectorConfig
	Tags         map[string]string // nil when it was created without tags
	LastModified time.Time
}

// ConnectorConfig is what an update of a network connector can change.
type ConnectorConfig struct {
	OperatorRoleARN string
	Subnets         []string
	SecurityGroups  []string
	Protocol        string   // IPv4 or DualStack
	ComputeTypes    []string // MicroVm
}

// Phase is one step of a launch, suspend, resume or build; the steps of one operation add up to its total.
type Phase struct {
	Name     string        `json:"name"`
	Duration time.Duration `json:"duration"` // nanoseconds
}

// Event is one state change of an image or a microVM, kept with its cause.
type Event struct {
	ID        int64
	Subject   string // image id or microVM id
	Operation string // launch, suspend, …; create, update, build 1.0, …, and "version 1.0" for a version's own states
	From, To  string
	Cause     string // api, idle, lifetime, traffic, shutdown, exit, …
	RequestID string // of the API call that caused it, "" if none did
	Detail    string
	Phases    []Phase
	At        time.Time
}

// ClientToken makes a request safe to repeat: the first one that carries it has the effect, and
// the row lives as long as what that made.
type ClientToken struct {
	AccountID     string
	Region        string
	Operation     string // for example RunMicrovm
	Token         string
	Parameters    []byte // SHA-256 of the request without its token
	ResultID      string // image id, microVM id or network connector id
	ResultVersion string // the image version made, "" for a microVM
	CreatedAt     time.Time
}

// TokenKey encrypts endpoint tokens; a token names the key it was made with.
type TokenKey struct {
	ID        string // UUID, the token's kid
	Secret    []byte // 32 bytes
	CreatedAt time.Time
}
