package awsapi

import "context"

// Caller is who sent an authenticated request.
type Caller struct {
	AccountID   string
	Region      string // of the signature's scope; ids and ARNs of the answer name it
	AccessKeyID string
	RequestID   string // also in the header x-amzn-requestid of the answer
}

type callerKey struct{}

// WithCaller puts the caller of a request into its context.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom is the caller of the request ctx belongs to, the zero Caller if there is none.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
