package main

import (
	"bytes"
	"fmt"
)

// requestShapes are the structures and unions that a request can hold. Answers are not checked.
func (m *model) requestShapes() map[string]bool {
	named := map[string]shape{}
	for _, s := range m.Shapes {
		named[s.Name] = s.T
	}
	found := map[string]bool{}
	var visit func(members ordered[shape])
	visit = func(members ordered[shape]) {
		for _, member := range members {
			target := member.T
			if target.Items != nil {
				target = *target.Items
			}
			if target.Shape != "" && !found[target.Shape] {
				found[target.Shape] = true
				visit(named[target.Shape].Members)
			}
		}
	}
	for _, op := range m.Operations {
		visit(op.T.Input)
	}
	return found
}

// writeShapes writes the tables that requests are decoded and checked with.
func writeShapes(m *model, b *bytes.Buffer) error {
	b.WriteString("package awsapi\n\n")
	requested := m.requestShapes()
	for _, s := range m.Shapes {
		if !requested[s.Name] {
			continue
		}
		fmt.Fprintf(b, "var shape%s = ", s.Name)
		writeShape(b, s.T, s.T.Kind)
		b.WriteString("\n\n")
	}
	for _, op := range m.Operations {
		fmt.Fprintf(b, "var input%s = ", op.Name)
		writeShape(b, shape{Members: op.T.Input}, "structure")
		b.WriteString("\n\n")
	}
	return nil
}

var kindNames = map[string]string{
	"structure": "kindStructure", "union": "kindUnion", "list": "kindList", "map": "kindMap",
	"string": "kindString", "integer": "kindInteger", "long": "kindLong", "boolean": "kindBoolean",
}

func writeShape(b *bytes.Buffer, s shape, kind string) {
	fmt.Fprintf(b, "&shape{kind: %s", kindNames[kind])
	lowest, highest := s.bounds()
	if lowest != nil {
		fmt.Fprintf(b, ", lowest: limit(%d)", *lowest)
	}
	if highest != nil {
		fmt.Fprintf(b, ", highest: limit(%d)", *highest)
	}
	if s.Pattern != "" {
		fmt.Fprintf(b, ", pattern: wholeString(%#q)", s.Pattern)
	}
	if s.Enum != nil {
		fmt.Fprintf(b, ", enum: %#v", s.Enum)
	}
	if s.Sensitive {
		b.WriteString(", sensitive: true")
	}
	if s.Key != nil {
		b.WriteString(", key: ")
		writeReference(b, *s.Key)
		b.WriteString(", item: ")
		writeReference(b, *s.Value)
	}
	if s.Items != nil {
		b.WriteString(", item: ")
		writeReference(b, *s.Items)
	}
	if len(s.Members) > 0 {
		b.WriteString(", members: []member{\n")
		for _, member := range s.Members {
			writeMember(b, member)
		}
		b.WriteString("}")
	}
	b.WriteString("}")
}

// writeReference writes the shape of a member, by its name if it has one.
func writeReference(b *bytes.Buffer, s shape) {
	if s.Shape != "" {
		b.WriteString("shape" + s.Shape)
		return
	}
	writeShape(b, s, s.Type)
}

var locations = map[string]string{"uri": "inLabel", "query": "inQuery"}

func writeMember(b *bytes.Buffer, member entry[shape]) {
	fmt.Fprintf(b, "{name: %q", member.Name)
	if in := locations[member.T.In]; in != "" {
		fmt.Fprintf(b, ", in: %s", in)
	}
	if wire := member.T.WireName; wire != "" && wire != member.Name {
		fmt.Fprintf(b, ", wire: %q", wire)
	}
	if member.T.Required {
		b.WriteString(", required: true")
	}
	if member.T.IdempotencyToken {
		b.WriteString(", idempotencyToken: true")
	}
	b.WriteString(", shape: ")
	writeReference(b, member.T)
	b.WriteString("},\n")
}
