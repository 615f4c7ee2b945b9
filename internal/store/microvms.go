package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// vmConfig is the JSON column with what RunMicrovm fixed for good and nothing looks up.
type vmConfig struct {
	IngressConnectors []string      `json:"ingress"`
	EgressConnectors  []string      `json:"egress"`
	ExecutionRoleARN  string        `json:"executionRole,omitempty"`
	Idle              *IdlePolicy   `json:"idle,omitempty"`
	WireLogging       []byte        `json:"wireLogging,omitempty"`
	MaximumDuration   time.Duration `json:"maximumDuration"` // nanoseconds
	RunHookPayload    string        `json:"runHookPayload,omitempty"`
	HasPayload        bool          `json:"hasPayload,omitempty"`
}

const selectVM = `SELECT seq, id, account_id, region, image_id, image_arn, image_version, state, state_reason,
	endpoint_id, endpoint_addr, memory_mib, config, started_at, suspended_at, terminated_at, traffic FROM microvms`

func scanVM(row scanner) (m MicroVM, seq int64, err error) {
	var c vmConfig
	err = row.Scan(&seq, &m.ID, &m.AccountID, &m.Region, &m.ImageID, &m.ImageARN, &m.ImageVersion, &m.State, &m.StateReason,
		&m.EndpointID, &m.EndpointAddr, &m.MemoryMiB, jsonOf(&c), (*nanos)(&m.StartedAt), (*nanos)(&m.SuspendedAt), (*nanos)(&m.TerminatedAt), jsonOf(&m.Traffic))
	m.IngressConnectors, m.EgressConnectors, m.ExecutionRoleARN = c.IngressConnectors, c.EgressConnectors, c.ExecutionRoleARN
	m.Idle, m.WireLogging, m.MaximumDuration = c.Idle, c.WireLogging, c.MaximumDuration
	m.RunHookPayload, m.HasPayload = c.RunHookPayload, c.HasPayload
	return m, seq, err
}

// InsertMicroVM adds a microVM and claims the client token if there is one: all or nothing.
// ErrTokenUsed: the token was claimed before. ErrConflict: the version cannot be run (any more).
// *ConnectorError: a connector is gone. ErrExists: the id or the endpoint address is in use.
// *QuotaError: it is more than the account may have.
func (s *Store) InsertMicroVM(ctx context.Context, m MicroVM, token *ClientToken, e Event) error {
	config := vmConfig{
		m.IngressConnectors, m.EgressConnectors, m.ExecutionRoleARN,
		m.Idle, m.WireLogging, m.MaximumDuration, m.RunHookPayload, m.HasPayload,
	}
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := claimToken(ctx, tx, token); err != nil {
			return err
		}
		if err := requireConnectors(ctx, tx, m.AccountID, m.EgressConnectors); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `INSERT INTO microvms (id, account_id, region, image_id, image_arn, image_version, state, state_reason,
				endpoint_id, endpoint_addr, memory_mib, config, started_at, suspended_at, terminated_at)
			SELECT ?1, ?2, ?3, images.id, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15
				FROM images JOIN image_versions v ON v.image_id = images.id
				WHERE images.id = ?4 AND images.state IN (SELECT value FROM json_each(?16))
				AND v.version = ?6 AND v.state = 'SUCCESSFUL' AND v.status = 'ACTIVE'`,
			m.ID, m.AccountID, m.Region, m.ImageID, m.ImageARN, m.ImageVersion, m.State, m.StateReason,
			m.EndpointID, m.EndpointAddr, m.MemoryMiB, jsonOf(&config), nanos(m.StartedAt), nanos(m.SuspendedAt), nanos(m.TerminatedAt),
			jsonOf(&RunnableImageStates))
		if err := mustChange(res, duplicate(err, ErrExists), ErrConflict); err != nil {
			return err
		}
		if err := s.within(ctx, tx, m.AccountID, m.ImageID, QuotaMemory); err != nil {
			return err
		}
		return s.addEvent(ctx, tx, e)
	})
	if err != nil {
		return fmt.Errorf("add microVM %s: %w", m.ID, err)
	}
	return nil
}

const transitionVMSQL = `UPDATE microvms SET state = ?, state_reason = ?, suspended_at = ?, terminated_at = ?, traffic = ? WHERE id = ? AND state = ?`

// TransitionMicroVM moves a microVM from the state from to m.State, with m.StateReason,
// m.SuspendedAt, m.TerminatedAt and m.Traffic, and records the event with it: one transaction, one fsync.
// ErrConflict: the row is in another state than from. ErrNotFound: it is gone.
func (s *Store) TransitionMicroVM(ctx context.Context, m MicroVM, from string, e Event) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		res, err := tx.StmtContext(ctx, s.transitionVM).ExecContext(ctx,
			m.State, m.StateReason, nanos(m.SuspendedAt), nanos(m.TerminatedAt), jsonOf(&m.Traffic), m.ID, from)
		err = mustChange(res, err, ErrConflict)
		if errors.Is(err, ErrConflict) {
			return missingElse(ctx, tx, err, `SELECT 1 FROM microvms WHERE id = ?`, m.ID)
		}
		if err != nil {
			return err
		}
		return s.addEvent(ctx, tx, e)
	})
	if err != nil {
		return fmt.Errorf("microVM %s from %s to %s: %w", m.ID, from, m.State, err)
	}
	return nil
}

// MicroVM returns a microVM by its id, or ErrNotFound.
func (s *Store) MicroVM(ctx context.Context, id string) (MicroVM, error) {
	m, _, err := scanVM(s.selectVM.QueryRowContext(ctx, id))
	if err != nil {
		return MicroVM{}, fmt.Errorf("microVM %s: %w", id, missing(err))
	}
	return m, nil
}

// MicroVMByEndpoint returns a microVM by its endpoint id, or ErrNotFound.
func (s *Store) MicroVMByEndpoint(ctx context.Context, endpointID string) (MicroVM, error) {
	m, _, err := scanVM(s.reader.QueryRowContext(ctx, selectVM+` WHERE endpoint_id = ?`, endpointID))
	if err != nil {
		return MicroVM{}, fmt.Errorf("microVM of endpoint %s: %w", endpointID, missing(err))
	}
	return m, nil
}

// MicroVMByAddr returns the microVM that has an endpoint address, or had it last, or ErrNotFound.
func (s *Store) MicroVMByAddr(ctx context.Context, addr string) (MicroVM, error) {
	m, _, err := scanVM(s.reader.QueryRowContext(ctx, selectVM+` WHERE endpoint_addr = ? AND endpoint_addr <> '' ORDER BY seq DESC LIMIT 1`, addr))
	if err != nil {
		return MicroVM{}, fmt.Errorf("microVM at %s: %w", addr, missing(err))
	}
	return m, nil
}

// VMFilter narrows a list of microVMs; "" does not.
type VMFilter struct {
	ImageARN     string
	ImageVersion string
}

// ListMicroVMs lists the microVMs of an account in a region, newest first, terminated ones
// included, and the cursor of the next page.
func (s *Store) ListMicroVMs(ctx context.Context, accountID, region string, f VMFilter, p Page) ([]MicroVM, int64, error) {
	query, args := selectVM+` WHERE account_id = ? AND region = ? AND seq < ?`, []any{accountID, region, p.before()}
	if f.ImageARN != "" {
		query, args = query+` AND image_arn = ?`, append(args, f.ImageARN)
	}
	if f.ImageVersion != "" {
		query, args = query+` AND image_version = ?`, append(args, f.ImageVersion)
	}
	rows, err := s.reader.QueryContext(ctx, query+` ORDER BY seq DESC LIMIT ?`, append(args, p.Limit+1)...)
	vms, next, err := collect(rows, err, p.Limit, scanVM)
	if err != nil {
		return nil, 0, fmt.Errorf("list microVMs: %w", err)
	}
	return vms, next, nil
}

// LiveMicroVMs lists the microVMs that are not TERMINATED, over all accounts, oldest first: what
// a restarted daemon has to adopt or to end.
func (s *Store) LiveMicroVMs(ctx context.Context) ([]MicroVM, error) {
	rows, err := s.reader.QueryContext(ctx, selectVM+` INDEXED BY microvms_live WHERE state <> 'TERMINATED' ORDER BY seq`)
	vms, err := collectAll(rows, err, func(row scanner) (MicroVM, error) {
		m, _, err := scanVM(row)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("list live microVMs: %w", err)
	}
	return vms, nil
}

// UsedEndpointAddrs lists the endpoint addresses of microVMs that are not TERMINATED.
func (s *Store) UsedEndpointAddrs(ctx context.Context) ([]string, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT endpoint_addr FROM microvms WHERE endpoint_addr <> '' AND state <> 'TERMINATED'`)
	addrs, err := collectAll(rows, err, func(row scanner) (addr string, err error) {
		return addr, row.Scan(&addr)
	})
	if err != nil {
		return nil, fmt.Errorf("list endpoint addresses: %w", err)
	}
	return addrs, nil
}

// PurgeTerminated removes at most limit microVMs that were terminated before the given time, with
// their events and client tokens, and returns their ids. Callers repeat it until it returns none,
// so that no single transaction holds the writer for long.
func (s *Store) PurgeTerminated(ctx context.Context, before time.Time, limit int) (ids []string, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `DELETE FROM microvms WHERE seq IN (SELECT seq FROM microvms
			WHERE state = 'TERMINATED' AND terminated_at < ? ORDER BY terminated_at LIMIT ?) RETURNING id`, nanos(before), limit)
		ids, err = collectAll(rows, err, func(row scanner) (id string, err error) { return id, row.Scan(&id) })
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, table := range []string{"events WHERE subject", "client_tokens WHERE result_id"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` IN (SELECT value FROM json_each(?))`, jsonOf(&ids)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("purge terminated microVMs: %w", err)
	}
	return ids, nil
}
