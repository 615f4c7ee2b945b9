package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// made names the effect of a request: an image with its version, a microVM or a network connector.
type made struct{ id, version string }

// clientToken turns the clientToken of a request into one that the store can claim; nil stays nil.
// parameters is the request without its token. Maps are written in the order of their keys, so
// equal requests have equal hashes. result is what the request will have made, if it is the first.
func (s *Service) clientToken(c awsapi.Caller, operation string, token *string, parameters any, result made) (*store.ClientToken, error) {
	if token == nil {
		return nil, nil
	}
	text, err := json.Marshal(parameters)
	if err != nil {
		return nil, fmt.Errorf("hash parameters: %w", err)
	}
	sum := sha256.Sum256(text)
	return &store.ClientToken{
		AccountID: c.AccountID, Region: c.Region, Operation: operation, Token: *token,
		Parameters: sum[:], ResultID: result.id, ResultVersion: result.version, CreatedAt: s.clock.Now(),
	}, nil
}

// earlier returns what a request with the same token made before this one, nil if there was none.
// A token that was used for another request is refused.
func (s *Service) earlier(ctx context.Context, token *store.ClientToken) (*store.ClientToken, error) {
	if token == nil {
		return nil, nil
	}
	used, err := s.store.ClientToken(ctx, *token)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(used.Parameters, token.Parameters) {
		return nil, awsapi.Conflict("The request uses the same client token as a previous, but non-identical request.")
	}
	return &used, nil
}

// once has the effect of a request, or finds what an earlier request with the same token made.
// The claim of the token is part of effect's transaction, so of several requests that arrive
// together one has the effect and the others come here a second time.
func once[T any](ctx context.Context, s *Service, token *store.ClientToken,
	effect func() (T, error), replay func(store.ClientToken) (T, error),
) (T, error) {
	var none T
	for range 2 {
		used, err := s.earlier(ctx, token)
		if err != nil {
			return none, err
		}
		if used != nil {
			return replay(*used)
		}
		result, err := effect()
		var gone *store.ConnectorError
		if errors.As(err, &gone) {
			err = connectorNotFound(gone.ARN).WithCause(err)
		}
		if !errors.Is(err, store.ErrTokenUsed) {
			return result, err
		}
	}
	return none, resultGone()
}

// resultGone is the answer when what another request made was removed again in between.
func resultGone() *awsapi.Error {
	return awsapi.Conflict("The result of an earlier request with the same client token no longer exists.")
}
