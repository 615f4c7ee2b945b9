package main

import (
	"fmt"
	"slices"
)

// companion is a service on the same host, in the form of botocore's models: every member refers
// to a named shape. It leaves absent members out of its answers (spec/api.md 6).
type companion struct {
	Operations ordered[struct {
		Method string `json:"method"`
		URI    string `json:"uri"`
		Status int    `json:"status"`
		Input  string `json:"input"`
		Output string `json:"output"`
	}] `json:"operations"`
	Shapes ordered[namedShape] `json:"shapes"`
}

type namedShape struct {
	Type     string             `json:"type"`
	Union    bool               `json:"union"`
	Required []string           `json:"required"`
	Members  ordered[reference] `json:"members"`
	Member   *reference         `json:"member"`
	Key      *reference         `json:"key"`
	Value    *reference         `json:"value"`
	Min      *int64             `json:"min"`
	Max      *int64             `json:"max"`
	Pattern  string             `json:"pattern"`
	Enum     []string           `json:"enum"`
	Format   string             `json:"timestampFormat"`
	Error    *struct {
		Status int `json:"httpStatusCode"`
	} `json:"error"`
}

type reference struct {
	Shape            string `json:"shape"`
	Location         string `json:"location"`
	LocationName     string `json:"locationName"`
	IdempotencyToken bool   `json:"idempotencyToken"`
}

// join adds the operations, shapes, enums and errors of a companion service to the model.
func (m *model) join(name string, c companion) error {
	inlined := map[string]bool{} // inputs and outputs: they are types of their operation
	for _, op := range c.Operations {
		inlined[op.T.Input], inlined[op.T.Output] = true, true
	}
	var failures ordered[failure]
	for _, s := range c.Shapes {
		switch {
		case s.T.Error != nil:
			members, err := c.members(s.Name)
			if err != nil {
				return err
			}
			failures = append(failures, entry[failure]{s.Name, failure{Status: s.T.Error.Status, Members: members}})
		case s.T.Enum != nil:
			m.Enums = append(m.Enums, entry[[]string]{s.Name, s.T.Enum})
		case s.T.Type == "structure" && !inlined[s.Name]:
			members, err := c.members(s.Name)
			if err != nil {
				return err
			}
			m.Shapes = append(m.Shapes, entry[shape]{s.Name, shape{Kind: s.T.kind(), Members: members, Omits: true}})
		}
	}
	m.services = append(m.services, entry[ordered[failure]]{name, failures})
	for _, op := range c.Operations {
		input, err := c.members(op.T.Input)
		if err != nil {
			return err
		}
		output, err := c.members(op.T.Output)
		if err != nil {
			return err
		}
		m.Operations = append(m.Operations, entry[operation]{op.Name, operation{
			Service: name, Omits: true,
			Method: op.T.Method, URI: op.T.URI, Status: op.T.Status, Input: input, Output: output,
		}})
	}
	return nil
}

func (s namedShape) kind() string {
	if s.Union {
		return "union"
	}
	return s.Type
}

func (c companion) find(name string) (namedShape, error) {
	for _, s := range c.Shapes {
		if s.Name == name {
			return s.T, nil
		}
	}
	return namedShape{}, fmt.Errorf("there is no shape %q", name)
}

// members are the members of a structure in the form of the main model.
func (c companion) members(structure string) (ordered[shape], error) {
	s, err := c.find(structure)
	if err != nil {
		return nil, err
	}
	var list ordered[shape]
	for _, member := range s.Members {
		target, err := c.resolve(member.T.Shape)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", structure, member.Name, err)
		}
		target.Required = slices.Contains(s.Required, member.Name)
		target.In = map[string]string{"uri": "uri", "querystring": "query", "header": "header"}[member.T.Location]
		target.WireName, target.IdempotencyToken = member.T.LocationName, member.T.IdempotencyToken
		list = append(list, entry[shape]{member.Name, target})
	}
	return list, nil
}

// resolve is a named shape as a member of the main model has it: structures by their name, all
// others with their constraints.
func (c companion) resolve(name string) (shape, error) {
	s, err := c.find(name)
	if err != nil {
		return shape{}, err
	}
	out := shape{Type: s.kind(), Pattern: s.Pattern, Enum: s.Enum, Format: s.Format}
	switch s.Type {
	case "structure":
		out.Shape = name
	case "string":
		out.MinLength, out.MaxLength = s.Min, s.Max
	case "list":
		out.MinItems, out.MaxItems = s.Min, s.Max
	case "map":
		out.MinEntries, out.MaxEntries = s.Min, s.Max
	default:
		out.Minimum, out.Maximum = s.Min, s.Max
	}
	if s.Enum != nil {
		out.EnumName = name
	}
	for _, part := range []struct {
		from *reference
		to   **shape
	}{{s.Member, &out.Items}, {s.Key, &out.Key}, {s.Value, &out.Value}} {
		if part.from == nil {
			continue
		}
		target, err := c.resolve(part.from.Shape)
		if err != nil {
			return shape{}, fmt.Errorf("%s: %w", name, err)
		}
		*part.to = &target
	}
	return out, nil
}
