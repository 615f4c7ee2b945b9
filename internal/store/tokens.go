package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// claimToken takes a client token in the transaction that has its effect; nil is no token.
// ErrTokenUsed means that another request had the effect.
func claimToken(ctx context.Context, tx *sql.Tx, t *ClientToken) error {
	if t == nil {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO client_tokens (account_id, region, operation, token, parameters, result_id, result_version, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, t.AccountID, t.Region, t.Operation, t.Token, t.Parameters, t.ResultID, t.ResultVersion, nanos(t.CreatedAt))
	return duplicate(err, ErrTokenUsed)
}

// ClientToken finds what a client token made, or returns ErrNotFound. Only the scope of the
// argument is read: AccountID, Region, Operation and Token.
func (s *Store) ClientToken(ctx context.Context, scope ClientToken) (ClientToken, error) {
	t := ClientToken{AccountID: scope.AccountID, Region: scope.Region, Operation: scope.Operation, Token: scope.Token}
	err := s.reader.QueryRowContext(ctx, `SELECT parameters, result_id, result_version, created_at FROM client_tokens
		WHERE account_id = ? AND region = ? AND operation = ? AND token = ?`, t.AccountID, t.Region, t.Operation, t.Token).
		Scan(&t.Parameters, &t.ResultID, &t.ResultVersion, (*nanos)(&t.CreatedAt))
	if err != nil {
		return ClientToken{}, fmt.Errorf("look up client token: %w", missing(err))
	}
	return t, nil
}

// forgetTokens drops the client tokens of something that is about to go.
func forgetTokens(ctx context.Context, tx *sql.Tx, resultID string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM client_tokens WHERE result_id = ?`, resultID)
	return err
}

// Purposes of rows in the table keys.
const (
	endpointTokens = "endpoint-token"
	pageTokens     = "page-token"
)

// SaveTokenKeys replaces the keys for endpoint tokens, all of them in one step.
func (s *Store) SaveTokenKeys(ctx context.Context, keys []TokenKey) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM keys WHERE purpose = ?`, endpointTokens); err != nil {
			return err
		}
		for _, k := range keys {
			if err := insertKey(ctx, tx, endpointTokens, k); err != nil {
				return fmt.Errorf("key %s: %w", k.ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save token keys: %w", err)
	}
	return nil
}

func insertKey(ctx context.Context, tx *sql.Tx, purpose string, k TokenKey) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO keys (id, purpose, key, created_at) VALUES (?, ?, ?, ?)`, k.ID, purpose, k.Secret, nanos(k.CreatedAt))
	return duplicate(err, ErrExists)
}

// LoadTokenKeys returns the keys for endpoint tokens, newest first; none before the first is saved.
func (s *Store) LoadTokenKeys(ctx context.Context) ([]TokenKey, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT id, key, created_at FROM keys WHERE purpose = ? ORDER BY created_at DESC, id`, endpointTokens)
	keys, err := collectAll(rows, err, func(row scanner) (k TokenKey, err error) {
		err = row.Scan(&k.ID, &k.Secret, (*nanos)(&k.CreatedAt))
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("load token keys: %w", err)
	}
	return keys, nil
}

// PageTokenKey returns the 32-byte key that seals the page tokens of lists; it is made at the first call.
func (s *Store) PageTokenKey(ctx context.Context, now time.Time) ([]byte, error) {
	var key []byte
	err := s.write(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT key FROM keys WHERE id = ?`, pageTokens).Scan(&key)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		key = make([]byte, 32)
		rand.Read(key) // never fails
		return insertKey(ctx, tx, pageTokens, TokenKey{ID: pageTokens, Secret: key, CreatedAt: now})
	})
	if err != nil {
		return nil, fmt.Errorf("page token key: %w", err)
	}
	return key, nil
}
