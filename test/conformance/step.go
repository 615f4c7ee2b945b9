package conformance

import (
	"strings"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

// object is JSON. Its strings may hold ${NAME}, for what an earlier step kept or run.go defines.
type object = map[string]any

// list is a list in it.
type list = []any

// members are expected values by path, "items.0.imageArn" for example: what JSON holds, or a matcher.
type members = map[string]any

// step is one promise, checked by one call (or several: until, pageSize) or one request to a VM.
type step struct {
	promise   string
	operation string
	input     object
	as        caller
	pageSize  int               // if set, the client's own paginator makes the calls
	want      members           // of the output; of a pager {"pages": […], "items": […of all pages]}
	refusal   *refusal          // if set, the call must fail, with this
	until     members           // if set, the call is repeated until they hold
	gone      bool              // with until: or until the call is refused as refusal says
	lacks     map[string]string // by client: why it cannot show what the step wants
	keep      map[string]string // what later steps need: name to path
	request   *request          // instead of a call
}

// caller is who makes a call.
type caller struct {
	name   string
	config *sdk.Config
}

var (
	wrongSecret = caller{"wrong secret key", &sdk.Config{Credentials: &sdk.Credentials{AccessKeyID: "${accessKey}", SecretAccessKey: "wrong"}}}
	stranger    = caller{"another account", &sdk.Config{Credentials: &sdk.Credentials{AccessKeyID: "${strangerKey}", SecretAccessKey: "${strangerSecret}"}}}
	limited     = caller{"an account with limits", &sdk.Config{Endpoint: "${limitedAPI}", Credentials: &sdk.Credentials{AccessKeyID: "${limitedKey}", SecretAccessKey: "${limitedSecret}"}}}
	unknownKey  = caller{"unknown access key", &sdk.Config{Credentials: &sdk.Credentials{AccessKeyID: "AKIDNOBODY", SecretAccessKey: "wrong"}}}
	otherRegion = caller{"another region", &sdk.Config{Region: "eu-west-1"}}
)

// chapter is a part of the scenario.
type chapter struct {
	title       string
	steps       []step
	independent bool // its steps may be taken at once
}

// refusal is an error as a client shows it. Every text must be in its message.
type refusal struct {
	name  string
	texts []string
}

func refused(name string, texts ...string) *refusal { return &refusal{name, texts} }

// statuses are the HTTP statuses of errors (spec/api.md 1.4).
var statuses = map[string]int{
	"AccessDeniedException":                  403,
	"ConflictException":                      409,
	"InvalidParameterValueException":         400,
	"InvalidSignatureException":              403,
	"NetworkConnectorLimitExceededException": 400,
	"ResourceConflictException":              409,
	"ResourceNotFoundException":              404,
	"ServiceQuotaExceededException":          402,
	"ThrottlingException":                    429,
	"UnrecognizedClientException":            403,
	"ValidationException":                    400,
}

// Names of errors that many steps provoke.
const (
	invalid    = "ValidationException"
	notFound   = "ResourceNotFoundException"
	denied     = "AccessDeniedException"
	conflict   = "ConflictException"
	badRequest = "InvalidParameterValueException" // of tags and connectors
)

// The services, by their names in the AWS CLI.
const (
	microvms   = "lambda-microvms"
	lambdaCore = "lambda-core"
)

// serviceOf tells which service has an operation.
func serviceOf(operation string) string {
	if strings.Contains(operation, "NetworkConnector") {
		return lambdaCore
	}
	return microvms
}

// constraint is the text of a constraint failure (spec/api.md 1.4).
func constraint(path, text string) string {
	return "at '" + path + "' failed to satisfy constraint: " + text
}

func longerThan(n string) string  { return "Member must have length less than or equal to " + n }
func shorterThan(n string) string { return "Member must have length greater than or equal to " + n }
func above(n string) string       { return "Member must have value less than or equal to " + n }
func below(n string) string       { return "Member must have value greater than or equal to " + n }

const (
	pattern = "Member must satisfy regular expression pattern: "
	enum    = "Member must satisfy enum value set: "
	missing = "Member must not be null"
)

// with is a copy of an input with members changed, or taken out where the value is nil.
func (o input) with(changes ...any) object {
	out := object{}
	for name, value := range o {
		out[name] = value
	}
	for i := 0; i < len(changes); i += 2 {
		out[changes[i].(string)] = changes[i+1]
		if changes[i+1] == nil {
			delete(out, changes[i].(string))
		}
	}
	return out
}

// input is a valid input that steps vary.
type input object
