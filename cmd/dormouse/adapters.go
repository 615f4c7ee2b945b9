package main

import (
	"context"
	"errors"

	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/sigv4"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// credentials looks up access keys for the API and for S3.
type credentials struct{ store *store.Store }

func (c credentials) Secret(ctx context.Context, accessKeyID string) (secret, accountID string, err error) {
	found, err := c.store.Credential(ctx, accessKeyID)
	if errors.Is(err, store.ErrNotFound) {
		return "", "", sigv4.ErrUnknownKey
	}
	return found.Secret, found.AccountID, err
}

// tokenKeys keeps the endpoint's token keys in the store.
type tokenKeys struct{ store *store.Store }

func (k tokenKeys) LoadTokenKeys(ctx context.Context) ([]endpoint.Key, error) {
	rows, err := k.store.LoadTokenKeys(ctx)
	keys := make([]endpoint.Key, len(rows))
	for i, row := range rows {
		keys[i] = endpoint.Key(row)
	}
	return keys, err
}

func (k tokenKeys) SaveTokenKeys(ctx context.Context, keys []endpoint.Key) error {
	rows := make([]store.TokenKey, len(keys))
	for i, key := range keys {
		rows[i] = store.TokenKey(key)
	}
	return k.store.SaveTokenKeys(ctx, rows)
}

// hosts tells the API where a microVM is reached.
type hosts struct{ door *endpoint.Server }

func (h hosts) Host(vm store.MicroVM) string {
	return h.door.EndpointHost(vm.EndpointID, vm.EndpointAddr)
}
