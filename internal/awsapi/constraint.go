package awsapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// outOfBounds are the texts of the bounds that n, a value or a length, does not keep.
func (s *shape) outOfBounds(n int64, what string) []string {
	var texts []string
	if s.highest != nil && n > *s.highest {
		texts = append(texts, fmt.Sprintf("Member must have %s less than or equal to %d", what, *s.highest))
	}
	if s.lowest != nil && n < *s.lowest {
		texts = append(texts, fmt.Sprintf("Member must have %s greater than or equal to %d", what, *s.lowest))
	}
	return texts
}

func (p *pattern) constraint() string {
	return "Member must satisfy regular expression pattern: " + p.text
}

func (s *shape) enumConstraint() string {
	return "Member must satisfy enum value set: [" + strings.Join(s.enum, ", ") + "]"
}

// allConstraints are the constraints of list items, map keys or map values. The service names all
// of them when any value breaks one.
func (s *shape) allConstraints() string {
	var texts []string
	if s.highest != nil {
		texts = append(texts, fmt.Sprintf("Member must have length less than or equal to %d", *s.highest))
	}
	if s.lowest != nil {
		texts = append(texts, fmt.Sprintf("Member must have length greater than or equal to %d", *s.lowest))
	}
	if s.pattern != nil {
		texts = append(texts, s.pattern.constraint())
	}
	if s.enum != nil {
		texts = append(texts, s.enumConstraint())
	}
	texts = append(texts, "Member must not be null")
	return "[" + strings.Join(texts, ", ") + "]"
}

// maxDisplayed bounds a value repeated in an error message, in bytes. It is more than any valid
// value of the model needs, so only hostile ones are cut.
const maxDisplayed = 10000

// display writes a value the way the service repeats it in constraint failures.
func display(v any) string {
	var b strings.Builder
	displayTo(&b, v)
	if b.Len() > maxDisplayed {
		return strings.ToValidUTF8(b.String()[:maxDisplayed], "") + "..."
	}
	return b.String()
}

func displayTo(b *strings.Builder, v any) {
	if b.Len() > maxDisplayed {
		return
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			if displayTo(b, item); b.Len() > maxDisplayed {
				return
			}
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(key + "=")
			if displayTo(b, v[key]); b.Len() > maxDisplayed {
				return
			}
		}
		b.WriteByte('}')
	default:
		fmt.Fprint(b, v)
	}
}
