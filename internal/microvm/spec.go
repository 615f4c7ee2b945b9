// Package microvm runs microVMs: launch, suspend, resume, terminate, and the boot-and-snapshot of an image.
package microvm

import (
	"context"
	"errors"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// RunSpec is one RunMicrovm request, checked and with its defaults filled in.
type RunSpec struct {
	// VM is the record to be. The manager sets State, EndpointID, EndpointAddr and StartedAt; the
	// rest, the id included, comes from the caller.
	VM store.MicroVM
	// Version is the image version to start from; it was runnable when the request was checked.
	Version store.ImageVersion
	// Token is claimed in the transaction that inserts the record (store.InsertMicroVM), so that of
	// several requests with the same token exactly one has an effect. It must happen before any
	// other effect; store.ErrTokenUsed comes back wrapped. nil: the request had no token.
	Token *store.ClientToken
}

// What can be wrong with a request for a microVM. They come back wrapped.
var (
	// ErrNotFound means that there is no such microVM.
	ErrNotFound = errors.New("no such microVM")
	// ErrTerminated means that the microVM is TERMINATED, which is final.
	ErrTerminated = errors.New("microVM is terminated")
	// ErrConflict means that the microVM is in a state from which the operation is not possible now.
	ErrConflict = errors.New("microVM is in a state that does not allow this")
	// ErrCapacity means that this host has no room for another running microVM at the moment.
	ErrCapacity = errors.New("no capacity for another microVM")
)

type requestIDKey struct{}

// WithRequestID names the API call that ctx belongs to; the events it causes carry it.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestIDFrom is the API call that ctx belongs to, "" if it is none.
func RequestIDFrom(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
