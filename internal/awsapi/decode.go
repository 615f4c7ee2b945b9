package awsapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
)

// notDeserialisable refuses a request whose JSON has the wrong form. The live front end sends
// the text of these refusals in a member with a capital letter (spec/api.md 1.4).
func notDeserialisable(format string, args ...any) *Error {
	e := Validation(format, args...)
	e.capitalMessage = true
	return e
}

// decode fills in (a pointer to the operation's input) from the parts of a request and checks it.
func (op *Operation) decode(labels map[string]string, rawQuery string, body []byte, in any) error {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return Validation("The query string is malformed.").WithCause(err)
	}
	if unencodedPadding(rawQuery) {
		return Validation("") // the live service says no more (spec/api.md 1.2)
	}
	object, err := op.parseBody(body)
	if err != nil {
		return err
	}
	known, err := check(op.input, op.gather(labels, query, object))
	if err != nil {
		return err
	}
	if err := bind(known, in); err != nil {
		return fmt.Errorf("bind request of %s: %w", op.Name, err)
	}
	if refusal := enforce(in); refusal != nil {
		return refusal
	}
	return nil
}

// unencodedPadding says that the page token of a query was put there without encoding its padding.
func unencodedPadding(rawQuery string) bool {
	for parameter := range strings.SplitSeq(rawQuery, "&") {
		if token, found := strings.CutPrefix(parameter, "nextToken="); found && strings.Contains(token, "=") {
			return true
		}
	}
	return false
}

// parseBody reads the JSON object of a request; no body is an empty object, and the body of an
// operation that takes none is ignored.
func (op *Operation) parseBody(body []byte) (map[string]any, error) {
	if !op.takesBody() || len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return nil, notDeserialisable("Could not parse request body into json: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	object, ok := v.(map[string]any)
	if !ok && v != nil {
		return nil, notDeserialisable("Expected null")
	}
	return object, nil
}

func (op *Operation) takesBody() bool {
	for _, m := range op.input.members {
		if m.in == inBody {
			return true
		}
	}
	return false
}

// gather brings the members of a request together, each from the one place it may come from.
func (op *Operation) gather(labels map[string]string, query url.Values, body map[string]any) map[string]any {
	members := make(map[string]any, len(op.input.members))
	for _, m := range op.input.members {
		switch m.in {
		case inLabel:
			members[m.name] = labels[m.name]
		case inQuery:
			if values, ok := query[m.wireName()]; ok {
				members[m.name] = fromQuery(m.shape, values)
			}
		case inBody:
			members[m.name] = body[m.name]
		}
	}
	return members
}

// fromQuery is what the values of a query parameter would be in JSON. Only lists repeat.
func fromQuery(s *shape, values []string) any {
	switch s.kind {
	case kindList:
		items := make([]any, len(values))
		for i, v := range values {
			items[i] = v
		}
		return items
	case kindInteger, kindLong:
		if json.Valid([]byte(values[0])) && strings.Trim(values[0], "-0123456789") == "" {
			return json.Number(values[0])
		}
	}
	return values[0]
}

// bind moves checked members into the generated structure that has them.
func bind(known map[string]any, in any) error {
	text, err := json.Marshal(known)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, in)
}
