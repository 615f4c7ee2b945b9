package awsapi

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/uuid"
)

// Request is an operation's input on its way to a server.
type Request struct {
	Method  string
	RawPath string // labels percent-encoded
	Query   url.Values
	Body    []byte // nil when the operation takes none
}

// NewRequest is the reverse of what the server does: it puts the members of in, (a pointer to)
// the operation's input, where they travel. An absent idempotency token is filled in.
func (op *Operation) NewRequest(in any) (*Request, error) {
	text, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode input of %s: %w", op.Name, err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, fmt.Errorf("input of %s is no structure: %w", op.Name, err)
	}
	rq := &Request{Method: op.Method, RawPath: op.Path, Query: url.Values{}}
	body := map[string]json.RawMessage{}
	for _, m := range op.input.members {
		v, present := members[m.name]
		if m.idempotencyToken && !present {
			v, present = json.RawMessage(`"`+uuid.NewString()+`"`), true
		}
		switch {
		case m.in == inBody:
			if present {
				body[m.name] = v
			}
		case m.in == inLabel:
			rq.RawPath = strings.Replace(rq.RawPath, "{"+m.name+"}", encodeLabel(plain(v)[0]), 1)
		case present:
			rq.Query[m.wireName()] = plain(v)
		}
	}
	if op.takesBody() {
		if rq.Body, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("encode body of %s: %w", op.Name, err)
		}
	}
	return rq, nil
}

// plain are the strings a scalar or a list of strings is outside JSON; a scalar is one string.
func plain(v json.RawMessage) []string {
	var list []string
	if json.Unmarshal(v, &list) == nil && list != nil {
		return list
	}
	var s string
	if json.Unmarshal(v, &s) == nil {
		return []string{s}
	}
	return []string{string(v)}
}

// encodeLabel encodes all but the unreserved characters of RFC 3986, as the SDKs do.
func encodeLabel(label string) string {
	return strings.ReplaceAll(url.QueryEscape(label), "+", "%20")
}
