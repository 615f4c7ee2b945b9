package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

// matcher says what is wrong with a value.
type matcher func(value any) error

// aTime is a time that the client has understood as one, not long ago.
var aTime matcher = func(value any) error {
	text, _ := value.(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("%v is not a time", value)
	}
	if age := time.Since(at); age < -time.Minute || age > time.Hour {
		return fmt.Errorf("%v is not now", at)
	}
	return nil
}

// someTime is any time.
var someTime matcher = func(value any) error {
	text, _ := value.(string)
	_, err := time.Parse(time.RFC3339, text)
	return err
}

// positive is a number above zero.
var positive matcher = func(value any) error {
	if n, ok := value.(float64); !ok || n <= 0 {
		return fmt.Errorf("%v is not above zero", value)
	}
	return nil
}

// like is a string that a regular expression matches as a whole.
func like(expression string) matcher {
	whole := regexp.MustCompile(`\A(?:` + expression + `)\z`)
	return func(value any) error {
		if text, ok := value.(string); !ok || !whole.MatchString(text) {
			return fmt.Errorf("%v is not like %s", value, expression)
		}
		return nil
	}
}

// oneOf is one of several strings.
func oneOf(words ...string) matcher {
	return func(value any) error {
		if text, ok := value.(string); !ok || !slices.Contains(words, text) {
			return fmt.Errorf("%v is none of %v", value, words)
		}
		return nil
	}
}

// count is a list with so many items.
func count(n int) matcher {
	return func(value any) error {
		if list, _ := value.([]any); len(list) != n {
			return fmt.Errorf("%d items instead of %d", len(list), n)
		}
		return nil
	}
}

// atLeast is a list with so many items or more.
func atLeast(n int) matcher {
	return func(value any) error {
		if list, _ := value.([]any); len(list) < n {
			return fmt.Errorf("%d items instead of %d or more", len(list), n)
		}
		return nil
	}
}

// absent is a member that is not there. SDKs differ in how they show that.
var absent matcher = func(value any) error {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		if len(v) == 0 {
			return nil
		}
	case object:
		if len(v) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%v, which should not be there", value)
}

const uuidPattern = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

// compare tells how an output differs from what is wanted.
func compare(output any, want members) error {
	var problems []error
	for path, expected := range want {
		if err := compareMember(at(output, path), expected); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", path, err))
		}
	}
	return errors.Join(problems...)
}

func compareMember(got, expected any) error {
	if match, ok := expected.(matcher); ok {
		return match(got)
	}
	if want := plain(expected); !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s instead of %s", show(got), show(want))
	}
	return nil
}

// plain is a value as it is after it was JSON.
func plain(value any) (out any) {
	text, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		panic("conformance: a step expects what JSON cannot hold: " + err.Error())
	}
	return out
}

func show(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// at is the member of a value at a path, nil if there is none. A name may hold dashes but no dots.
func at(value any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case object:
			value = v[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// matches tells how an error differs from a refusal.
func (r *refusal) matches(got *sdk.Error) error {
	if got.Name != r.name {
		return fmt.Errorf("%s instead of %s: %s", got.Name, r.name, got.Message)
	}
	if want := statuses[r.name]; got.Status != want && got.Status != sdk.UnknownStatus {
		return fmt.Errorf("HTTP status %d instead of %d: %s", got.Status, want, got.Message)
	}
	for _, text := range r.texts {
		if !strings.Contains(got.Message, text) {
			return fmt.Errorf("the message is %q and lacks %q", got.Message, text)
		}
	}
	return nil
}
