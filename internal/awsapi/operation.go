// Package awsapi is the wire layer of the service: it checks signatures, routes requests, decodes and checks them against the service model, and encodes answers and errors.
package awsapi

import (
	"context"
	"errors"
)

//go:generate go run ./gen -spec ../../spec/model.json -out .

// Operation is one row of the routing table.
type Operation struct {
	Service string // lambda-microvms, or lambda-core on the same host (spec/api.md 6)
	Name    string
	Method  string
	Path    string // with labels in braces, /2025-09-09/microvms/{microvmIdentifier}
	Status  int    // HTTP status of a success

	input  *shape
	invoke func(ctx context.Context, b Backend, bind func(in any) error) (any, error)
}

// invoke ties an operation to its method of Backend; bind fills in the decoded request.
func invoke[In, Out any](method func(Backend, context.Context, *In) (*Out, error)) func(context.Context, Backend, func(any) error) (any, error) {
	return func(ctx context.Context, b Backend, bind func(any) error) (any, error) {
		in := new(In)
		if err := bind(in); err != nil {
			return nil, err
		}
		out, err := method(b, ctx, in)
		if err != nil {
			return nil, err
		}
		if out == nil {
			return nil, errors.New("the backend returned neither an answer nor an error")
		}
		return out, nil
	}
}

func byName(list []*Operation) map[string]*Operation {
	m := make(map[string]*Operation, len(list))
	for _, op := range list {
		m[op.Name] = op
	}
	return m
}

func unimplemented(operation string) *Error {
	return Validation("The operation %s is not available on this Dormouse server.", operation)
}
