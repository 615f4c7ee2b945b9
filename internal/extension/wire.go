// Package extension is what Dormouse serves beyond the AWS API, on the same listener and with the same signatures: events, logs and details of microVMs and builds (docs/extension-api.md).
package extension

import (
	"net/url"
	"strconv"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// Prefix is what the raw path of every request begins with.
const Prefix = "/dormouse/2026-11-25/"

// EventsInput asks for a page of events, newest first.
type EventsInput struct {
	Subject    string // microVM id or image ARN; "" is everything of the caller's account and region
	MaxResults int    // 1 to 1000; 0 is 100
	NextToken  string // of the page before, "" for the first
}

// Query is the input on the wire.
func (in EventsInput) Query() url.Values {
	q := url.Values{}
	set(q, "subject", in.Subject)
	set(q, "nextToken", in.NextToken)
	if in.MaxResults != 0 {
		q.Set("maxResults", strconv.Itoa(in.MaxResults))
	}
	return q
}

// EventsOutput is a page of events.
type EventsOutput struct {
	Events    awsapi.List[Event] `json:"events"`
	NextToken *string            `json:"nextToken"` // null on the last page
}

// Event is one state change of a microVM or an image.
type Event struct {
	At        awsapi.Timestamp   `json:"at"`
	Subject   string             `json:"subject"` // microVM id or image ARN
	Operation string             `json:"operation"`
	From      string             `json:"from"`
	To        string             `json:"to"`
	Cause     string             `json:"cause"`
	RequestID string             `json:"requestId"` // "" if no API call caused it
	Detail    string             `json:"detail"`
	Phases    awsapi.List[Phase] `json:"phases"`
}

// Phase is one step of an operation; the steps add up to its total.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Kind says which log is meant.
type Kind string

// The kinds of logs.
const (
	BuildLog   Kind = "build"   // of a build: what BuildKit said, what the app wrote, how it ended
	AppLog     Kind = "app"     // of a microVM: what its app wrote, "TIME STREAM TEXT" in each line
	ConsoleLog Kind = "console" // of a microVM: its serial console
	VMMLog     Kind = "vmm"     // of a microVM: what its virtual machine monitor printed
)

// LogsInput asks for a log.
type LogsInput struct {
	Source string // microVM id or build id
	Kind   Kind   // "" is BuildLog for a build id, AppLog for a microVM id
	Follow bool   // go on until the build has ended or the microVM is TERMINATED
	Tail   *int   // only the last so many lines, 0 to 100,000; nil is all
}

// Query is the input on the wire.
func (in LogsInput) Query() url.Values {
	q := url.Values{}
	set(q, "source", in.Source)
	set(q, "kind", string(in.Kind))
	if in.Follow {
		q.Set("follow", "true")
	}
	if in.Tail != nil {
		q.Set("tail", strconv.Itoa(*in.Tail))
	}
	return q
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// MicroVM is what GetMicrovm does not tell of a microVM. Optional members are null when they are
// not known or do not apply.
type MicroVM struct {
	MicrovmID       string              `json:"microvmId"`
	MemoryMiB       *int                `json:"memoryMiB"` // null when its image is gone
	CPUs            *int                `json:"cpus"`
	SuspendedAt     *awsapi.Timestamp   `json:"suspendedAt"`     // only while SUSPENDED
	Generation      uint64              `json:"generation"`      // launches and resumes since the daemon started
	CheckpointBytes *int64              `json:"checkpointBytes"` // on disk; only while SUSPENDED
	DiskBytes       *int64              `json:"diskBytes"`       // what its writable disk takes on the host
	VMMPid          *int                `json:"vmmPid"`          // only while it has a VMM
	LastTrafficAt   *awsapi.Timestamp   `json:"lastTrafficAt"`   // through its endpoint, or its last start; idleness counts from it
	Traffic         Traffic             `json:"traffic"`
	Networks        awsapi.List[string] `json:"networks"` // named networks that its egress connectors lead into now
}

// Traffic is what a microVM has moved since its launch, in bytes of payload as the guest sees it.
type Traffic struct {
	IngressIn  uint64 `json:"ingressIn"` // through its endpoint
	IngressOut uint64 `json:"ingressOut"`
	EgressIn   uint64 `json:"egressIn"` // over connections it made outwards
	EgressOut  uint64 `json:"egressOut"`
	Denied     uint64 `json:"denied"` // connections, questions about names and answers that were refused
}

// Build is one build of an image version.
type Build struct {
	BuildID      string              `json:"buildId"`
	ImageARN     string              `json:"imageArn"`
	ImageVersion string              `json:"imageVersion"`
	State        string              `json:"state"`
	StateReason  string              `json:"stateReason"`
	CreatedAt    awsapi.Timestamp    `json:"createdAt"`
	EndedAt      *awsapi.Timestamp   `json:"endedAt"` // null while it goes on
	Phases       awsapi.List[Phase]  `json:"phases"`
	CodeBytes    int64               `json:"codeBytes"` // 0 when not known
	MemoryBytes  int64               `json:"memoryBytes"`
	DiskBytes    int64               `json:"diskBytes"`
	LogTail      awsapi.List[string] `json:"logTail"` // the last 50 lines of a failed build
}
