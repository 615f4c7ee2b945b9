package awsapi

import (
	"regexp"
	"sync"
)

// kind is the JSON form of a shape.
type kind int

const (
	kindStructure kind = iota
	kindUnion          // a structure with exactly one member set
	kindList
	kindMap // always from strings to strings
	kindString
	kindInteger // 32 bits
	kindLong    // 64 bits
	kindBoolean
)

// shape is what the service model says about a value: its form and its constraints.
// The tables of shapes are generated.
type shape struct {
	kind      kind
	lowest    *int64 // of a number, of the length of a string (characters) or of the size of a list or map
	highest   *int64
	pattern   *pattern
	enum      []string
	sensitive bool // the value must not be shown, not even to its sender

	members []member // of a structure or union
	item    *shape   // of a list, or the values of a map
	key     *shape   // the keys of a map
}

type location int

const (
	inBody location = iota
	inLabel
	inQuery
)

type member struct {
	name             string
	in               location
	wire             string // name in the query, where it differs
	required         bool
	idempotencyToken bool // clients fill it in
	shape            *shape
}

// wireName is the member's name in the query.
func (m member) wireName() string {
	if m.wire != "" {
		return m.wire
	}
	return m.name
}

// pattern is a regular expression that has to match the whole string (spec/api.md 1.6).
type pattern struct {
	text  string // as the model has it
	whole func() *regexp.Regexp
}

// wholeString compiles a pattern when it is first needed: clients, which check nothing, start faster.
func wholeString(text string) *pattern {
	return &pattern{text: text, whole: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\A(?:` + text + `)\z`) })}
}

func limit(n int64) *int64 { return &n }
