package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ConnectorError says that a network connector that was named does not exist or is not ACTIVE;
// nothing was written.
type ConnectorError struct{ ARN string }

func (e *ConnectorError) Error() string { return "no network connector " + e.ARN + " is active" }

const selectConnector = `SELECT seq, id, arn, account_id, region, name, state, version, config, tags, last_modified FROM network_connectors`

func scanConnector(row scanner) (c Connector, seq int64, err error) {
	err = row.Scan(&seq, &c.ID, &c.ARN, &c.AccountID, &c.Region, &c.Name, &c.State, &c.Version,
		jsonOf(&c.Config), jsonOf(&c.Tags), (*nanos)(&c.LastModified))
	return c, seq, err
}

// CreateConnector adds a network connector and claims the client token if there is one: all or
// nothing. ErrTokenUsed: the token was claimed before. ErrExists: the account has a connector of
// that name in that region. *QuotaError: it may have no more.
func (s *Store) CreateConnector(ctx context.Context, c Connector, token *ClientToken) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := claimToken(ctx, tx, token); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO network_connectors (id, arn, account_id, region, name, state, version, config, tags, last_modified)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			c.ID, c.ARN, c.AccountID, c.Region, c.Name, c.State, c.Version, jsonOf(&c.Config), jsonOf(&c.Tags), nanos(c.LastModified))
		if err != nil {
			return duplicate(err, ErrExists)
		}
		return s.within(ctx, tx, c.AccountID, "", QuotaConnectors)
	})
	if err != nil {
		return fmt.Errorf("create network connector %s: %w", c.Name, err)
	}
	return nil
}

// Connector returns a network connector of an account in a region by its id or else by its name,
// or ErrNotFound.
func (s *Store) Connector(ctx context.Context, accountID, region, idOrName string) (Connector, error) {
	c, _, err := scanConnector(s.reader.QueryRowContext(ctx, selectConnector+` WHERE account_id = ?1 AND region = ?2 AND (id = ?3 OR name = ?3)
		ORDER BY id = ?3 DESC LIMIT 1`, accountID, region, idOrName))
	if err != nil {
		return Connector{}, fmt.Errorf("network connector %s: %w", idOrName, missing(err))
	}
	return c, nil
}

// ListConnectors lists the network connectors of an account in a region that are in a state ("" is
// any), newest first, and the cursor of the next page.
func (s *Store) ListConnectors(ctx context.Context, accountID, region, state string, p Page) ([]Connector, int64, error) {
	rows, err := s.reader.QueryContext(ctx, selectConnector+` WHERE account_id = ?1 AND region = ?2 AND seq < ?3 AND (?4 = '' OR state = ?4)
		ORDER BY seq DESC LIMIT ?5`, accountID, region, p.before(), state, p.Limit+1)
	connectors, next, err := collect(rows, err, p.Limit, scanConnector)
	if err != nil {
		return nil, 0, fmt.Errorf("list network connectors: %w", err)
	}
	return connectors, next, nil
}

// keptUpdateTokens is how many client tokens of a network connector's updates are remembered: the
// newest. Clients repeat a request within minutes, and a connector may live for years.
const keptUpdateTokens = 100

// errUnchanged undoes an update, the claim of its client token included.
var errUnchanged = errors.New("nothing changed")

// UpdateConnector replaces the configuration of a network connector by what edit makes of it, with
// no other change in between, and claims the client token if there is one and something changes. It
// returns the connector as it is then, and whether anything changed. ErrNotFound, ErrTokenUsed.
func (s *Store) UpdateConnector(ctx context.Context, id string, at time.Time, token *ClientToken, edit func(*ConnectorConfig)) (now Connector, changed bool, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		if err := claimToken(ctx, tx, token); err != nil {
			return err
		}
		row := tx.QueryRowContext(ctx, selectConnector+` WHERE id = ?`, id)
		if now, _, err = scanConnector(row); err != nil {
			return missing(err)
		}
		before, err := jsonOf(&now.Config).Value()
		if err != nil {
			return err
		}
		edit(&now.Config)
		after, err := jsonOf(&now.Config).Value()
		if err != nil {
			return err
		}
		if after == before {
			return errUnchanged
		}
		changed, now.Version, now.LastModified = true, now.Version+1, at
		_, err = tx.ExecContext(ctx, `UPDATE network_connectors SET config = ?, version = ?, last_modified = ? WHERE id = ?`,
			after, now.Version, nanos(now.LastModified), now.ID)
		if err != nil || token == nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM client_tokens WHERE result_id = ?1 AND operation = ?2 AND token NOT IN
			(SELECT token FROM client_tokens WHERE result_id = ?1 AND operation = ?2 ORDER BY created_at DESC LIMIT ?3)`,
			now.ID, token.Operation, keptUpdateTokens)
		return err
	})
	if errors.Is(err, errUnchanged) {
		return now, false, nil
	}
	if err != nil {
		return Connector{}, false, fmt.Errorf("update network connector %s: %w", id, err)
	}
	return now, changed, nil
}

// connectorUsedSQL looks where a connector can be used: in its account and region.
const connectorUsedSQL = `SELECT
	EXISTS (SELECT 1 FROM microvms, json_each(config, '$.egress')
		WHERE account_id = ?1 AND region = ?2 AND microvms.state <> 'TERMINATED' AND value = ?3) OR
	EXISTS (SELECT 1 FROM images JOIN image_versions v ON v.image_id = images.id, json_each(v.config, '$.EgressConnectors')
		WHERE account_id = ?1 AND region = ?2 AND value = ?3)`

// DeleteConnector removes a network connector with its client tokens. ErrNotFound. ErrInUse: an
// image version, or a microVM that is not TERMINATED, names it.
func (s *Store) DeleteConnector(ctx context.Context, c Connector) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		var used bool
		err := tx.QueryRowContext(ctx, connectorUsedSQL, c.AccountID, c.Region, c.ARN).Scan(&used)
		if err != nil {
			return err
		}
		if used {
			return ErrInUse
		}
		res, err := tx.ExecContext(ctx, `DELETE FROM network_connectors WHERE id = ?`, c.ID)
		if err := mustChange(res, err, ErrNotFound); err != nil {
			return err
		}
		return forgetTokens(ctx, tx, c.ID)
	})
	if err != nil {
		return fmt.Errorf("delete network connector %s: %w", c.ID, err)
	}
	return nil
}

const missingConnectorSQL = `SELECT value FROM json_each(?1) WHERE value LIKE 'arn:%:' || ?2 || ':network-connector:%'
	AND NOT EXISTS (SELECT 1 FROM network_connectors WHERE arn = value AND account_id = ?2 AND state = 'ACTIVE') LIMIT 1`

// requireConnectors refuses connectors of an account that are not ACTIVE in the transaction that
// begins to use them: DeleteConnector may have come in between. Connectors that are not the
// account's are the service's own and always there.
func requireConnectors(ctx context.Context, tx *sql.Tx, accountID string, arns []string) error {
	var gone string
	err := tx.QueryRowContext(ctx, missingConnectorSQL, jsonOf(&arns), accountID).Scan(&gone)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return &ConnectorError{gone}
}
