package conformance

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

// variables are what ${NAME} in steps stands for.
type variables map[string]any

var placeholder = regexp.MustCompile(`\$\{(\w+)\}`)

// unset is the error of a step that needs what an earlier one did not get.
type unset []string

func (u unset) Error() string {
	return "an earlier step did not get " + strings.Join(u, ", ")
}

// within tells whether all that is missing is among names.
func (u unset) within(names map[string]bool) bool {
	for _, name := range u {
		if !names[name] {
			return false
		}
	}
	return true
}

// expand puts values into everything in a step that may hold placeholders.
func (v variables) expand(s step) (out step, err error) {
	missing := map[string]bool{}
	out = s
	out.input, _ = v.fill(s.input, missing).(object)
	out.want, _ = v.fill(s.want, missing).(members)
	out.until, _ = v.fill(s.until, missing).(members)
	if s.refusal != nil {
		filled := refusal{name: s.refusal.name}
		for _, text := range s.refusal.texts {
			filled.texts = append(filled.texts, v.text(text, missing))
		}
		out.refusal = &filled
	}
	if s.as.config != nil {
		filled := *s.as.config
		filled.Endpoint = v.text(filled.Endpoint, missing)
		if key := filled.Credentials; key != nil {
			filled.Credentials = &sdk.Credentials{AccessKeyID: v.text(key.AccessKeyID, missing), SecretAccessKey: v.text(key.SecretAccessKey, missing)}
		}
		out.as.config = &filled
	}
	if s.request != nil {
		filled := *s.request
		filled.host, filled.token = v.text(filled.host, missing), v.text(filled.token, missing)
		out.request = &filled
	}
	if len(missing) > 0 {
		return s, unset(slices.Sorted(maps.Keys(missing)))
	}
	return out, nil
}

// fill is a copy of a value with placeholders replaced. Names of members are left as they are.
func (v variables) fill(value any, missing map[string]bool) any {
	switch value := value.(type) {
	case string:
		return v.value(value, missing)
	case input:
		return v.fill(object(value), missing)
	case object:
		if value == nil {
			return value
		}
		out := make(object, len(value))
		for name, member := range value {
			out[name] = v.fill(member, missing)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, item := range value {
			out[i] = v.fill(item, missing)
		}
		return out
	}
	return value
}

// value is what a string stands for: of a placeholder alone the value itself, which may be no string.
func (v variables) value(text string, missing map[string]bool) any {
	if m := placeholder.FindStringSubmatch(text); m != nil && m[0] == text {
		if kept, ok := v[m[1]]; ok {
			return kept
		}
	}
	return v.text(text, missing)
}

func (v variables) text(text string, missing map[string]bool) string {
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		name := found[2 : len(found)-1]
		kept, ok := v[name]
		if !ok {
			missing[name] = true
		}
		return fmt.Sprint(kept)
	})
}
