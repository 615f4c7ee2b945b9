package awsapitest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Model is spec/model.json as tests read it, independently of the generator.
type Model struct {
	Operations        map[string]ModelOperation
	Shapes            map[string]ModelShape
	CompanionServices map[string]struct {
		Operations map[string]struct{ Input, Output string }
		Shapes     map[string]companionShape
	}
	ServerEnforced map[string]map[string]any
}

// ModelOperation has the members of an operation's request and answer.
type ModelOperation struct {
	Input, Output map[string]ModelShape

	omits bool // absent members are left out of the answer; else they are null
}

// ModelShape is a named shape, or a member with its traits.
type ModelShape struct {
	Kind, Type, Shape  string
	Required           bool
	Members            map[string]ModelShape
	Items, Key, Value  *ModelShape
	Enum               []string
	Pattern            string
	MaxLength, Maximum *int64

	iso bool // a timestamp that is a text
}

// ReadModel reads spec/model.json.
func ReadModel(t testing.TB) Model {
	t.Helper()
	var m Model
	require.NoError(t, json.Unmarshal(Spec(t, "model.json"), &m))
	for _, companion := range m.CompanionServices {
		for name, op := range companion.Operations {
			m.Operations[name] = ModelOperation{
				Input: resolve(companion.Shapes, op.Input).Members, Output: resolve(companion.Shapes, op.Output).Members, omits: true,
			}
		}
	}
	return m
}

// companionShape is a shape in the form of botocore's models.
type companionShape struct {
	Type            string
	Union           bool
	Required        []string
	Members         map[string]struct{ Shape string }
	Member          struct{ Shape string }
	Value           struct{ Shape string }
	Enum            []string
	Pattern         string
	TimestampFormat string
}

// resolve replaces the names in a shape by what they stand for.
func resolve(shapes map[string]companionShape, name string) ModelShape {
	s := shapes[name]
	out := ModelShape{Type: s.Type, Kind: s.Type, Enum: s.Enum, iso: s.TimestampFormat == "iso8601"}
	if s.Union {
		out.Kind = "union"
	}
	if s.Member.Shape != "" {
		item := resolve(shapes, s.Member.Shape)
		out.Items = &item
	}
	if s.Value.Shape != "" {
		value := resolve(shapes, s.Value.Shape)
		out.Value = &value
	}
	for member, target := range s.Members {
		resolved := resolve(shapes, target.Shape)
		resolved.Required = slices.Contains(s.Required, member)
		if out.Members == nil {
			out.Members = map[string]ModelShape{}
		}
		out.Members[member] = resolved
	}
	return out
}

// Faults are the differences between the answer of an operation and the model, member by member:
// members it has and should not have, required ones that are missing or null, values of another
// type, enum values that do not exist, and optional members that are neither null nor left out,
// whichever the service does.
func (m Model) Faults(t testing.TB, operation, answer string) []string {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(answer))
	decoder.UseNumber() // keeps numbers as they were written
	var object map[string]any
	require.NoError(t, decoder.Decode(&object), answer)
	op := m.Operations[operation]
	f := faults{model: m, omits: op.omits}
	f.members("", op.Output, object)
	slices.Sort(f.list)
	return f.list
}

type faults struct {
	model Model
	omits bool
	list  []string
}

func (f *faults) add(path, format string, args ...any) {
	f.list = append(f.list, path+": "+fmt.Sprintf(format, args...))
}

func (f *faults) members(path string, members map[string]ModelShape, object map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if _, known := members[name]; !known {
			f.add(path+name, "is not in the model")
		}
	}
	for name, s := range members {
		v, present := object[name]
		switch {
		case v != nil:
			f.value(path+name, s, v)
		case s.Required:
			f.add(path+name, "is required")
		case present && f.omits:
			f.add(path+name, "is null and should be left out")
		case !present && !f.omits:
			f.add(path+name, "is left out and should be null")
		}
	}
}

func (f *faults) value(path string, s ModelShape, v any) {
	if named, ok := f.model.Shapes[s.Shape]; ok {
		s.Kind, s.Members = named.Kind, named.Members
	}
	switch v := v.(type) {
	case map[string]any:
		f.object(path, s, v)
	case []any:
		if s.Items == nil {
			f.add(path, "is a list")
			return
		}
		for i, item := range v {
			f.value(path+"["+strconv.Itoa(i)+"]", *s.Items, item)
		}
	case string:
		f.text(path, s, v)
	case json.Number:
		number := s.Type == "integer" || s.Type == "long" || s.Type == "timestamp" && !s.iso
		if _, err := v.Int64(); !number || s.Type != "timestamp" && err != nil {
			f.add(path, "is the number %s", v)
		}
	case bool:
		if s.Type != "boolean" {
			f.add(path, "is %v", v)
		}
	default:
		f.add(path, "is %T", v)
	}
}

func (f *faults) object(path string, s ModelShape, v map[string]any) {
	switch {
	case s.Value != nil:
		for key, value := range v {
			f.value(path+"["+key+"]", *s.Value, value)
		}
	case s.Kind == "union":
		if len(v) != 1 {
			f.add(path, "is a union of %d members", len(v))
		}
		for name, member := range v {
			if target, known := s.Members[name]; known && member != nil {
				f.value(path+"."+name, target, member)
			} else {
				f.add(path+"."+name, "is not in the model, or null")
			}
		}
	case s.Kind == "structure":
		f.members(path+".", s.Members, v)
	default:
		f.add(path, "is an object")
	}
}

func (f *faults) text(path string, s ModelShape, v string) {
	switch {
	case s.iso:
		if _, err := time.Parse(time.RFC3339, v); err != nil {
			f.add(path, "is no time: %q", v)
		}
	case s.Type != "string" && s.Type != "":
		f.add(path, "is the text %q", v)
	case s.Enum != nil && !slices.Contains(s.Enum, v):
		f.add(path, "is %q, not one of %v", v, s.Enum)
	}
}
