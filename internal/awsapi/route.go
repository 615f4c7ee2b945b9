package awsapi

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// route is an operation with its path cut at the slashes.
type route struct {
	op       *Operation
	segments []string // a label is written {name}
}

var routes = cutPaths()

func cutPaths() []route {
	var list []route
	for _, name := range slices.Sorted(maps.Keys(Operations)) {
		op := Operations[name]
		list = append(list, route{op, strings.Split(op.Path, "/")})
	}
	return list
}

// findRoute finds the operation a request is for and its decoded labels. rawPath is the path as
// it was sent: a label can hold %2F, which must not be taken for a slash (spec/api.md 1.2).
// allowed are the methods the path has, when the only thing wrong is the method.
func findRoute(method, rawPath string) (op *Operation, labels map[string]string, allowed []string, err error) {
	segments := strings.Split(rawPath, "/")
	for _, r := range routes {
		if !r.matches(segments) {
			continue
		}
		if r.op.Method != method {
			allowed = append(allowed, r.op.Method)
			continue
		}
		labels, err := r.labels(segments)
		return r.op, labels, nil, err
	}
	if allowed != nil {
		refusal := Errorf(UnknownOperationException, "The path does not allow the method; it allows %s.", strings.Join(allowed, ", "))
		refusal.status = http.StatusMethodNotAllowed
		return nil, nil, allowed, refusal
	}
	return nil, nil, nil, Errorf(UnknownOperationException, "No operation of the service has this method and path.")
}

func isLabel(segment string) bool { return strings.HasPrefix(segment, "{") }

func (r route) matches(segments []string) bool {
	if len(segments) != len(r.segments) {
		return false
	}
	for i, want := range r.segments {
		if !isLabel(want) && segments[i] != want {
			return false
		}
	}
	return true
}

func (r route) labels(segments []string) (map[string]string, error) {
	labels := map[string]string{}
	for i, name := range r.segments {
		if !isLabel(name) {
			continue
		}
		value, err := url.PathUnescape(segments[i])
		if err != nil {
			return nil, Validation("The path is malformed.").WithCause(err)
		}
		labels[strings.Trim(name, "{}")] = value
	}
	return labels, nil
}
