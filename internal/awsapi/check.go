package awsapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxListedFailures bounds the message of one refusal: a body of 1 MiB can hold hundreds of
// thousands of faulty list items.
const maxListedFailures = 100

// checker holds a request against the service model. A value of the wrong JSON type ends the
// check with an error; constraints that are not met are collected, so that the caller learns of
// all of them at once (spec/api.md 1.4).
type checker struct {
	failed int
	listed []string
}

// check returns the members of a request that the model knows, or why the request is refused.
func check(s *shape, members map[string]any) (map[string]any, error) {
	var c checker
	known, err := c.structure(s, members, "")
	if err != nil {
		return nil, err
	}
	if refusal := c.refusal(); refusal != nil {
		return nil, refusal
	}
	return known, nil
}

// refusal names all constraints that are not met, nil if there is none.
func (c *checker) refusal() *Error {
	if c.failed == 0 {
		return nil
	}
	plural := ""
	if c.failed > 1 {
		plural = "s"
	}
	return Validation("%d validation error%s detected: %s", c.failed, plural, strings.Join(c.listed, "; "))
}

// missing notes that a member the service insists on was not sent.
func (c *checker) missing(s *shape, path string) { c.fail(s, nil, path, "Member must not be null") }

// fail notes that the value at path does not meet a constraint.
func (c *checker) fail(s *shape, v any, path, constraint string) {
	c.failed++
	if len(c.listed) == maxListedFailures {
		return
	}
	subject := "Value at"
	switch {
	case s.hidden():
	case v == nil:
		subject = "Value null at"
	default:
		subject = "Value '" + display(v) + "' at"
	}
	c.listed = append(c.listed, fmt.Sprintf("%s '%s' failed to satisfy constraint: %s", subject, path, constraint))
}

func (c *checker) value(s *shape, v any, path string) (any, error) {
	switch s.kind {
	case kindStructure, kindUnion:
		object, ok := v.(map[string]any)
		if !ok {
			return nil, notDeserialisable("Expected null")
		}
		if s.kind == kindUnion {
			c.union(s, object, path)
		}
		return c.structure(s, object, path+".")
	case kindList:
		return c.list(s, v, path)
	case kindMap:
		return c.stringMap(s, v, path)
	}
	if err := s.accepts(v, path); err != nil {
		return nil, err
	}
	for _, constraint := range s.violated(v) {
		c.fail(s, v, path, constraint)
	}
	return v, nil
}

// structure returns the members the model knows; unknown ones and nulls are ignored.
func (c *checker) structure(s *shape, object map[string]any, prefix string) (map[string]any, error) {
	known := make(map[string]any, len(s.members))
	for _, m := range s.members {
		v := object[m.name]
		if v == nil {
			if m.required {
				c.missing(m.shape, prefix+m.name)
			}
			continue
		}
		checked, err := c.value(m.shape, v, prefix+m.name)
		if err != nil {
			return nil, err
		}
		known[m.name] = checked
	}
	return known, nil
}

func (c *checker) union(s *shape, object map[string]any, path string) {
	set := 0
	names := make([]string, 0, len(s.members))
	for _, m := range s.members {
		names = append(names, m.name)
		if object[m.name] != nil {
			set++
		}
	}
	if set != 1 {
		c.fail(s, object, path, "Member must have exactly one of ["+strings.Join(names, ", ")+"] set")
	}
}

func (c *checker) list(s *shape, v any, path string) (any, error) {
	items, ok := v.([]any)
	if !ok {
		return nil, notDeserialisable("Expected list or null at '%s'", path)
	}
	for _, constraint := range s.outOfBounds(int64(len(items)), "length") {
		c.fail(s, v, path, constraint)
	}
	if s.item.kind == kindStructure || s.item.kind == kindUnion {
		return c.structures(s, items, path)
	}
	violated := false
	for _, item := range items {
		if item == nil {
			violated = true
			continue
		}
		if err := s.item.accepts(item, path); err != nil {
			return nil, err
		}
		violated = violated || len(s.item.violated(item)) > 0
	}
	if violated {
		c.fail(s, v, path, "Member must satisfy constraint: "+s.item.allConstraints())
	}
	return items, nil
}

func (c *checker) structures(s *shape, items []any, path string) (any, error) {
	checked := make([]any, 0, len(items))
	for i, item := range items {
		at := fmt.Sprintf("%s.%d.member", path, i+1)
		if item == nil {
			c.missing(s.item, at)
			continue
		}
		known, err := c.value(s.item, item, at)
		if err != nil {
			return nil, err
		}
		checked = append(checked, known)
	}
	return checked, nil
}

func (c *checker) stringMap(s *shape, v any, path string) (any, error) {
	entries, ok := v.(map[string]any)
	if !ok {
		return nil, notDeserialisable("Expected map or null at '%s'", path)
	}
	for _, constraint := range s.outOfBounds(int64(len(entries)), "length") {
		c.fail(s, v, path, constraint)
	}
	keys, values := false, false
	for key, value := range entries {
		keys = keys || len(s.key.violated(key)) > 0
		if value == nil {
			values = true
			continue
		}
		if err := s.item.accepts(value, path); err != nil {
			return nil, err
		}
		values = values || len(s.item.violated(value)) > 0
	}
	if keys {
		c.fail(s, v, path, "Map keys must satisfy constraint: "+s.key.allConstraints())
	}
	if values {
		c.fail(s, v, path, "Map value must satisfy constraint: "+s.item.allConstraints())
	}
	return entries, nil
}

// hidden says that a value must not be shown: it is sensitive or holds what is.
func (s *shape) hidden() bool {
	if s.sensitive || s.item != nil && s.item.hidden() {
		return true
	}
	for _, m := range s.members {
		if m.shape.hidden() {
			return true
		}
	}
	return false
}

// accepts says whether the JSON value v can be a scalar of shape s at all.
func (s *shape) accepts(v any, path string) error {
	names := map[kind]string{kindString: "String", kindInteger: "Integer", kindLong: "Long", kindBoolean: "Boolean"}
	var found string
	switch v := v.(type) {
	case string:
		if s.kind == kindString {
			return nil
		}
		found = "STRING_VALUE"
	case json.Number:
		bits := map[kind]int{kindInteger: 32, kindLong: 64}[s.kind]
		if _, err := strconv.ParseInt(v.String(), 10, bits); bits > 0 && err == nil {
			return nil
		}
		found = "NUMBER_VALUE"
	case bool:
		if s.kind == kindBoolean {
			return nil
		}
		found = strings.ToUpper(strconv.FormatBool(v)) + "_VALUE"
	case []any:
		return notDeserialisable("Start of list found where not expected at '%s'", path)
	default:
		return notDeserialisable("Start of structure or map found where not expected at '%s'", path)
	}
	return notDeserialisable("%s cannot be converted to %s at '%s'", found, names[s.kind], path)
}

// violated are the texts of the constraints that the scalar v does not meet.
func (s *shape) violated(v any) []string {
	var texts []string
	switch v := v.(type) {
	case string:
		texts = s.outOfBounds(int64(utf8.RuneCountInString(v)), "length")
		if s.pattern != nil && !s.pattern.whole().MatchString(v) {
			texts = append(texts, s.pattern.constraint())
		}
		if s.enum != nil && !slices.Contains(s.enum, v) {
			texts = append(texts, s.enumConstraint())
		}
	case json.Number:
		n, _ := v.Int64() // accepts has seen to it that it is one
		texts = s.outOfBounds(n, "value")
	}
	return texts
}
