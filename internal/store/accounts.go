package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// DefaultAccountID is the account that exists from the first start.
const DefaultAccountID = "000000000000"

// CreateAccount adds an account, or returns ErrExists for its id or name.
func (s *Store) CreateAccount(ctx context.Context, a Account) error {
	err := s.write(ctx, func(tx *sql.Tx) error { return insertAccount(ctx, tx, a) })
	if err != nil {
		return fmt.Errorf("create account %s: %w", a.ID, err)
	}
	return nil
}

// Accounts lists all accounts, oldest first.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	rows, err := s.reader.QueryContext(ctx, selectAccount+` ORDER BY created_at, id`)
	accounts, err := collectAll(rows, err, scanAccount)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return accounts, nil
}

// Account finds an account by its id or its name, or returns ErrNotFound.
func (s *Store) Account(ctx context.Context, idOrName string) (Account, error) {
	a, err := scanAccount(s.reader.QueryRowContext(ctx, selectAccount+` WHERE id = ?1 OR (name = ?1 AND name <> '') ORDER BY id = ?1 DESC LIMIT 1`, idOrName))
	if err != nil {
		return Account{}, fmt.Errorf("account %s: %w", idOrName, missing(err))
	}
	return a, nil
}

const selectAccount = `SELECT id, name, created_at FROM accounts`

func scanAccount(row scanner) (a Account, err error) {
	err = row.Scan(&a.ID, &a.Name, (*nanos)(&a.CreatedAt))
	return a, err
}

func insertAccount(ctx context.Context, tx *sql.Tx, a Account) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO accounts (id, name, created_at) VALUES (?, ?, ?)`, a.ID, a.Name, nanos(a.CreatedAt))
	return duplicate(err, ErrExists)
}

// CreateCredential adds an access key to an account that exists, or returns ErrExists.
func (s *Store) CreateCredential(ctx context.Context, c Credential) error {
	err := s.write(ctx, func(tx *sql.Tx) error { return insertCredential(ctx, tx, c) })
	if err != nil {
		return fmt.Errorf("create access key %s: %w", c.AccessKeyID, err)
	}
	return nil
}

func insertCredential(ctx context.Context, tx *sql.Tx, c Credential) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO credentials (access_key_id, secret, account_id, created_at) VALUES (?, ?, ?, ?)`,
		c.AccessKeyID, c.Secret, c.AccountID, nanos(c.CreatedAt))
	return duplicate(err, ErrExists)
}

// Credential looks an access key up, or returns ErrNotFound. Every API request asks for one. It is
// not remembered here, because the command line adds and deletes keys while the daemon runs.
func (s *Store) Credential(ctx context.Context, accessKeyID string) (Credential, error) {
	c, err := scanCredential(s.selectKey.QueryRowContext(ctx, accessKeyID))
	if err != nil {
		return Credential{}, fmt.Errorf("look up access key: %w", missing(err))
	}
	return c, nil
}

// Credentials lists access keys, those of an account ("" is all), oldest first.
func (s *Store) Credentials(ctx context.Context, accountID string) ([]Credential, error) {
	rows, err := s.reader.QueryContext(ctx, selectCredential+` WHERE ?1 = '' OR account_id = ?1 ORDER BY created_at, access_key_id`, accountID)
	found, err := collectAll(rows, err, scanCredential)
	if err != nil {
		return nil, fmt.Errorf("list access keys: %w", err)
	}
	return found, nil
}

// DeleteCredential removes an access key, which opens nothing from then on, or returns ErrNotFound.
func (s *Store) DeleteCredential(ctx context.Context, accessKeyID string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM credentials WHERE access_key_id = ?`, accessKeyID)
		return mustChange(res, err, ErrNotFound)
	})
	if err != nil {
		return fmt.Errorf("delete access key %s: %w", accessKeyID, err)
	}
	return nil
}

const selectCredential = `SELECT access_key_id, secret, account_id, created_at FROM credentials`

func scanCredential(row scanner) (c Credential, err error) {
	err = row.Scan(&c.AccessKeyID, &c.Secret, &c.AccountID, (*nanos)(&c.CreatedAt))
	return c, err
}

// EnsureDefaults makes the default account and one access key for it unless they are there, and
// returns the oldest access key of that account. Calling it again returns the same key, so a
// caller that died before it wrote the key file can write it at the next start.
func (s *Store) EnsureDefaults(ctx context.Context, now time.Time) (Credential, error) {
	var cred Credential
	err := s.write(ctx, func(tx *sql.Tx) error {
		var err error
		cred, err = scanCredential(tx.QueryRowContext(ctx, selectCredential+` WHERE account_id = ? ORDER BY created_at, access_key_id LIMIT 1`, DefaultAccountID))
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		for _, name := range []string{"default", ""} { // the name may be another account's
			err = insertAccount(ctx, tx, Account{ID: DefaultAccountID, Name: name, CreatedAt: now})
			if !errors.Is(err, ErrExists) {
				break
			}
		}
		if err != nil && !errors.Is(err, ErrExists) { // it is there, without a key
			return err
		}
		cred = NewCredential(DefaultAccountID, now)
		return insertCredential(ctx, tx, cred)
	})
	if err != nil {
		return Credential{}, fmt.Errorf("make default account: %w", err)
	}
	return cred, nil
}

// NewAccountID makes up an account id: twelve digits, which does not begin with those of the
// default account. It is not stored.
func NewAccountID() string {
	const from, to = 100_000_000_000, 1_000_000_000_000
	n, err := rand.Int(rand.Reader, big.NewInt(to-from))
	if err != nil {
		panic("store: the system's random numbers failed: " + err.Error()) // rand.Reader never does
	}
	return n.Add(n, big.NewInt(from)).String()
}

// NewCredential makes up an access key in the form clients expect: an id of AKIA and 16 characters,
// and a secret of 40 (240 random bits). It is not stored.
func NewCredential(accountID string, now time.Time) Credential {
	secret := make([]byte, 30)
	rand.Read(secret) // never fails
	return Credential{
		AccessKeyID: "AKIA" + rand.Text()[:16],
		Secret:      base64.StdEncoding.EncodeToString(secret),
		AccountID:   accountID,
		CreatedAt:   now.UTC(),
	}
}
