// Package arn reads and writes the Amazon resource names of images and network connectors (spec/api.md 1.6).
package arn

import (
	"regexp"
	"strings"
	"sync"

	awsarn "github.com/aws/aws-sdk-go-v2/aws/arn"
)

// ManagedAccount stands in the place of an account number in the names of what the service itself provides.
const ManagedAccount = "aws"

const (
	partition = "aws"
	service   = "lambda"

	imageType            = "microvm-image"
	connectorType        = "network-connector"
	managedConnectorType = "network-connector:aws-network-connector"
)

// Reason says what is wrong with an ARN.
type Reason int

// The reasons.
const (
	NotARN        Reason = iota + 1 // does not start with "arn:"
	Malformed                       // not six sections, or one of them has the wrong form
	OtherService                    // well formed, of another partition or service
	OtherResource                   // of the service, but not the kind of resource asked for
	SlashForm                       // type/name in place of type:name; the live service denies access to these
)

var reasonTexts = map[Reason]string{
	NotARN:        "doesn't start with 'arn:'",
	Malformed:     "is malformed",
	OtherService:  "is of another partition or service",
	OtherResource: "names another kind of resource",
	SlashForm:     "has a slash between type and name in place of a colon",
}

// Error says why a text was not accepted as an ARN.
type Error struct {
	Input  string
	Reason Reason
}

func (e *Error) Error() string { return "ARN " + e.Input + " " + reasonTexts[e.Reason] }

// Image names an image: arn:aws:lambda:<region>:<account>:microvm-image:<name>.
type Image struct {
	Region  string
	Account string // twelve digits, or ManagedAccount
	Name    string
}

func (i Image) String() string { return format(i.Region, i.Account, imageType, i.Name) }

// Managed says that i is a base image of the service, for example al2023-1.
func (i Image) Managed() bool { return i.Account == ManagedAccount }

// ManagedImage names a base image of the service.
func ManagedImage(region, name string) Image { return Image{region, ManagedAccount, name} }

// Connector names a network connector, a customer's
// (arn:aws:lambda:<region>:<account>:network-connector:<name>) or one of the service's
// (arn:aws:lambda:<region>:aws:network-connector:aws-network-connector:<NAME>).
type Connector struct {
	Region  string
	Account string // twelve digits, or ManagedAccount
	Name    string // nc-<uuid>, or HTTP_INGRESS, …
}

func (c Connector) String() string {
	if c.Managed() {
		return format(c.Region, c.Account, managedConnectorType, c.Name)
	}
	return format(c.Region, c.Account, connectorType, c.Name)
}

// Managed says that c is one of the service's connectors.
func (c Connector) Managed() bool { return c.Account == ManagedAccount }

// ManagedConnector names a connector of the service.
func ManagedConnector(region, name string) Connector { return Connector{region, ManagedAccount, name} }

func format(region, account, resourceType, name string) string {
	return awsarn.ARN{
		Partition: partition, Service: service, Region: region, AccountID: account,
		Resource: resourceType + ":" + name,
	}.String()
}

// Compiled when first needed: every start of the program would pay for them.
var (
	regionForm  = form(`\A[a-z0-9][a-z0-9-]{0,31}\z`)
	accountForm = form(`\A([0-9]{12}|` + ManagedAccount + `)\z`)
)

func form(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// named says that name can be the last section of an ARN. What else a name may hold is up to the
// service model, which package awsapi enforces when something gets its name.
func named(name string) bool { return name != "" && !strings.Contains(name, ":") }

// ParseImage reads the ARN of an image. What it refuses, it refuses with an *Error.
func ParseImage(text string) (Image, error) {
	parsed, err := parse(text, imageType)
	if err != nil {
		return Image{}, err
	}
	name := strings.TrimPrefix(parsed.Resource, imageType+":")
	if !named(name) {
		return Image{}, &Error{text, Malformed}
	}
	return Image{parsed.Region, parsed.AccountID, name}, nil
}

// ParseConnector reads the ARN of a network connector. What it refuses, it refuses with an *Error.
func ParseConnector(text string) (Connector, error) {
	parsed, err := parse(text, connectorType)
	if err != nil {
		return Connector{}, err
	}
	prefix := connectorType + ":"
	if parsed.AccountID == ManagedAccount {
		prefix = managedConnectorType + ":"
	}
	name, found := strings.CutPrefix(parsed.Resource, prefix)
	if !found || !named(name) {
		return Connector{}, &Error{text, Malformed}
	}
	return Connector{parsed.Region, parsed.AccountID, name}, nil
}

// parse checks all but the name of the resource.
func parse(text, resourceType string) (awsarn.ARN, error) {
	if !strings.HasPrefix(text, "arn:") {
		return awsarn.ARN{}, &Error{text, NotARN}
	}
	parsed, err := awsarn.Parse(text)
	switch {
	case err != nil:
		return awsarn.ARN{}, &Error{text, Malformed}
	case parsed.Partition != partition || parsed.Service != service:
		return awsarn.ARN{}, &Error{text, OtherService}
	case strings.HasPrefix(parsed.Resource, resourceType+"/"):
		return awsarn.ARN{}, &Error{text, SlashForm}
	case !strings.HasPrefix(parsed.Resource, resourceType+":"):
		return awsarn.ARN{}, &Error{text, OtherResource}
	case !regionForm().MatchString(parsed.Region) || !accountForm().MatchString(parsed.AccountID):
		return awsarn.ARN{}, &Error{text, Malformed}
	}
	return parsed, nil
}
