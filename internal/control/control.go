// Package control carries out the operations of the API over images, microVMs and endpoint tokens: defaults, refusals with the service's own texts, and repeatable requests.
package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/pagetoken"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Images makes and removes images. The rows are written before a method returns; building and
// removing files go on after it.
type Images interface {
	// Create adds i (Tags included) with version 1.0 of the given configuration and begins to
	// build it. The token, if not nil, is claimed in the transaction that adds the rows.
	// Errors: store.ErrExists for the name, store.ErrTokenUsed, *store.QuotaError.
	Create(ctx context.Context, i store.Image, config store.ImageConfig, token *store.ClientToken) (store.Image, store.ImageVersion, error)
	// Delete begins to remove an image. Errors: store.ErrInUse, store.ErrConflict when its state
	// does not allow it, store.ErrNotFound.
	Delete(ctx context.Context, imageID string) error
	// Update adds the next version of an image and begins to build it; the image is UPDATING
	// meanwhile. Errors: store.ErrConflict when its state does not allow it, store.ErrTokenUsed,
	// store.ErrNotFound, *store.QuotaError.
	Update(ctx context.Context, imageID string, config store.ImageConfig, token *store.ClientToken) (store.Image, store.ImageVersion, error)
	// DeleteVersion begins to remove a version; the image is UPDATING meanwhile. Errors:
	// store.ErrLastVersion, and those of Delete.
	DeleteVersion(ctx context.Context, imageID, version string) error
}

// MicroVMs runs microVMs. Every method returns when the request is accepted; the work goes on
// after it. Errors are those of the package microvm, and *store.QuotaError.
type MicroVMs interface {
	// Run returns the PENDING record.
	Run(ctx context.Context, spec microvm.RunSpec) (store.MicroVM, error)
	Suspend(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	Terminate(ctx context.Context, id string) error
}

// Tokens makes endpoint tokens.
type Tokens interface {
	Mint(vmID string, ports []endpoint.PortRange, ttl time.Duration) (string, error)
	// MintShell makes a token that opens a shell in the microVM, and no port of it.
	MintShell(vmID string, ttl time.Duration) (string, error)
}

// Endpoints knows where a microVM is reached.
type Endpoints interface {
	// Host is what clients put after https://, for example 127.64.0.9:7443.
	Host(vm store.MicroVM) string
}

// Config is what a Service works with. All members are required.
type Config struct {
	Store     *store.Store
	Images    Images
	MicroVMs  MicroVMs
	Tokens    Tokens
	Endpoints Endpoints
	Clock     clockwork.Clock
	Pages     *pagetoken.Codec
}

// Service carries out API operations. It is safe for concurrent use and keeps no state of its own.
type Service struct {
	// What Dormouse does not have yet answers that it does not.
	awsapi.UnimplementedBackend

	store     *store.Store
	images    Images
	microvms  MicroVMs
	tokens    Tokens
	endpoints Endpoints
	clock     clockwork.Clock
	pages     *pagetoken.Codec
}

var _ awsapi.Backend = (*Service)(nil)

// New returns a Service.
func New(c Config) *Service {
	return &Service{
		store: c.Store, images: c.Images, microvms: c.MicroVMs, tokens: c.Tokens,
		endpoints: c.Endpoints, clock: c.Clock, pages: c.Pages,
	}
}

// begin names the API call to the events it will cause, and says who calls.
func begin(ctx context.Context) (context.Context, awsapi.Caller) {
	c := awsapi.CallerFrom(ctx)
	return microvm.WithRequestID(ctx, c.RequestID), c
}

// orRefusal answers refusal where a row is missing, and leaves other errors to the API's edge.
func orRefusal(err error, refusal *awsapi.Error) error {
	if errors.Is(err, store.ErrNotFound) {
		return refusal
	}
	return err
}

// orQuota answers what the service says where a quota is reached. The recorded refusal for memory
// has no details, and neither text nor code of the others is known (spec/api.md RunMicrovm).
func orQuota(err error) error {
	var full *store.QuotaError
	if !errors.As(err, &full) {
		return err
	}
	text := map[store.Quota]string{
		store.QuotaConnectors: fmt.Sprintf("The maximum number of network connectors (%d) has been reached for this account.", full.Most),
		store.QuotaMemory:     "The base maximum allocated memory limit has been reached for this account.",
		store.QuotaImages:     fmt.Sprintf("The maximum number of MicroVM images (%d) has been reached for this account.", full.Most),
		store.QuotaVersions:   fmt.Sprintf("The maximum number of versions (%d) has been reached for this MicroVM image.", full.Most),
		store.QuotaBuilds:     fmt.Sprintf("The maximum number of concurrent MicroVM image builds (%d) has been reached for this account.", full.Most),
	}[full.Quota]
	return awsapi.QuotaExceeded("%s", text).WithCause(err)
}

// optional is the wire form of a text that is "" when it is absent.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// optionalTime is the wire form of a time that is zero when it is absent.
func optionalTime(t time.Time) *awsapi.Timestamp {
	if t.IsZero() {
		return nil
	}
	at := awsapi.At(t)
	return &at
}
