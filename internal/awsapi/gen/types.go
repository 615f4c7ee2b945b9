package main

import (
	"bytes"
	"fmt"
	"strings"
)

// writeTypes writes the enums, the structures and unions, and the input and output of every operation.
func writeTypes(m *model, b *bytes.Buffer) error {
	b.WriteString("package awsapi\n\n")
	for _, e := range m.Enums {
		writeEnum(b, e)
	}
	for _, s := range m.Shapes {
		if s.T.Kind != "structure" && s.T.Kind != "union" {
			continue
		}
		fmt.Fprintf(b, "// %s is the %s of that name in the service model.\n", s.Name, s.T.Kind)
		if s.T.Kind == "union" {
			b.WriteString("// Exactly one member is set.\n")
		}
		if err := m.writeStruct(b, s.Name, s.T.Members, s.T.Kind, s.T.Omits); err != nil {
			return err
		}
	}
	for _, op := range m.Operations {
		fmt.Fprintf(b, "// %sInput is what %s is called with.\n", op.Name, op.Name)
		if err := m.writeStruct(b, op.Name+"Input", op.T.Input, "input", op.T.Omits); err != nil {
			return err
		}
		fmt.Fprintf(b, "// %sOutput is what %s answers.\n", op.Name, op.Name)
		if err := m.writeStruct(b, op.Name+"Output", op.T.Output, "output", op.T.Omits); err != nil {
			return err
		}
	}
	return nil
}

func writeEnum(b *bytes.Buffer, e entry[[]string]) {
	fmt.Fprintf(b, "// %s is the enum of that name in the service model.\ntype %s string\n\n", e.Name, e.Name)
	fmt.Fprintf(b, "// The values of %s.\nconst (\n", e.Name)
	for _, v := range e.T {
		fmt.Fprintf(b, "%s%s %s = %q\n", e.Name, camel(v), e.Name, v)
	}
	b.WriteString(")\n\n")
}

// camel turns CREATE_FAILED into CreateFailed; a word with small letters stays as it is.
func camel(v string) string {
	var out strings.Builder
	for word := range strings.SplitSeq(v, "_") {
		if word == strings.ToUpper(word) {
			word = word[:1] + strings.ToLower(word[1:])
		}
		out.WriteString(exported(word))
	}
	return out.String()
}

// exported is the Go name of a member: the model's own, as the AWS SDK for Go does it.
func exported(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// writeStruct writes one structure. Requests and unions leave absent members out of their JSON;
// everything a server answers carries them as null, as the live service does, unless the service
// omits them.
func (m *model) writeStruct(b *bytes.Buffer, name string, members ordered[shape], kind string, omits bool) error {
	fmt.Fprintf(b, "type %s struct {\n", name)
	for _, member := range members {
		goType, err := m.goType(member.T, kind)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", name, member.Name, err)
		}
		tag := member.Name
		if kind == "union" || (kind == "input" || omits) && !member.T.Required {
			tag += ",omitzero"
		}
		fmt.Fprintf(b, "%s %s `json:%q`", exported(member.Name), goType, tag)
		if note := remarks(member.T); note != "" {
			b.WriteString(" // " + note)
		}
		b.WriteByte('\n')
	}
	b.WriteString("}\n\n")
	return nil
}

// goType is the Go type of a member. Optional scalars, structures and unions are pointers;
// lists and maps are nil when absent.
func (m *model) goType(s shape, kind string) (string, error) {
	switch s.Type {
	case "list":
		item, err := m.scalarType(*s.Items)
		if s.Required && kind == "output" {
			return "List[" + item + "]", err // required: [] and never null
		}
		return "[]" + item, err
	case "map":
		return "map[string]string", nil
	}
	t, err := m.scalarType(s)
	if !s.Required {
		t = "*" + t
	}
	return t, err
}

func (m *model) scalarType(s shape) (string, error) {
	if s.Shape != "" {
		return s.Shape, nil
	}
	if s.Enum != nil {
		return m.enumType(s)
	}
	switch s.Type {
	case "string":
		return "string", nil
	case "integer":
		return "int32", nil
	case "long":
		return "int64", nil
	case "boolean":
		return "bool", nil
	case "timestamp":
		if s.Format == "iso8601" {
			return "ISOTimestamp", nil
		}
		return "Timestamp", nil
	}
	return "", fmt.Errorf("unknown type %q", s.Type)
}

// remarks are the constraints a reader of the Go type wants to know.
func remarks(s shape) string {
	var notes []string
	if s.Required {
		notes = append(notes, "required")
	}
	lowest, highest := s.bounds()
	unit := map[string]string{"string": "characters", "list": "items", "map": "entries"}[s.Type]
	switch {
	case lowest != nil && highest != nil:
		notes = append(notes, strings.TrimSpace(fmt.Sprintf("%d..%d %s", *lowest, *highest, unit)))
	case lowest != nil:
		notes = append(notes, strings.TrimSpace(fmt.Sprintf("at least %d %s", *lowest, unit)))
	}
	if s.Sensitive || s.Value != nil && s.Value.Sensitive {
		notes = append(notes, "sensitive")
	}
	return strings.Join(notes, ", ")
}
