package store

import (
	"context"
	"database/sql"
	"fmt"
)

// Quotas bound what one account can have on this host; 0 is no bound. They hold over all regions
// together: a region is only a name here, and callers may sign for any. They are checked in the
// transaction that adds something, so that of two requests for the last place one gets it.
type Quotas struct {
	MemoryMiB  int // memory classes of microVMs that are not TERMINATED: until then a guest has its memory
	Images     int
	Versions   int // of one image, failed ones included
	Builds     int // that have not ended
	Connectors int // network connectors
}

// Quota names one of the Quotas.
type Quota string

// The quotas there are.
const (
	QuotaMemory     Quota = "memory"
	QuotaImages     Quota = "images"
	QuotaVersions   Quota = "versions"
	QuotaBuilds     Quota = "builds"
	QuotaConnectors Quota = "connectors"
)

// QuotaError means that something would be beyond a quota; nothing was written.
type QuotaError struct {
	Quota Quota
	Most  int
}

func (e *QuotaError) Error() string { return fmt.Sprintf("quota of %s reached: %d", e.Quota, e.Most) }

// usageSQL counts what a quota is about, of the account ?1; versions are counted of the image ?2.
var usageSQL = map[Quota]string{
	QuotaMemory: `SELECT coalesce(sum(memory_mib), 0) FROM microvms INDEXED BY microvms_live
		WHERE state <> 'TERMINATED' AND account_id = ?1`,
	QuotaImages:   `SELECT count(*) FROM images WHERE account_id = ?1`,
	QuotaVersions: `SELECT count(*) FROM image_versions WHERE image_id = ?2`,
	QuotaBuilds: `SELECT count(*) FROM builds INDEXED BY builds_unfinished JOIN images ON images.id = builds.image_id
		WHERE ended_at = 0 AND account_id = ?1`,
	QuotaConnectors: `SELECT count(*) FROM network_connectors WHERE account_id = ?1`,
}

// within fails with a *QuotaError if the rows of tx, the new one included, are beyond a quota.
func (s *Store) within(ctx context.Context, tx *sql.Tx, accountID, imageID string, quotas ...Quota) error {
	for _, quota := range quotas {
		most := map[Quota]int{
			QuotaMemory: s.quotas.MemoryMiB, QuotaImages: s.quotas.Images,
			QuotaVersions: s.quotas.Versions, QuotaBuilds: s.quotas.Builds,
			QuotaConnectors: s.quotas.Connectors,
		}[quota]
		if most == 0 {
			continue
		}
		var used int
		if err := tx.QueryRowContext(ctx, usageSQL[quota], accountID, imageID).Scan(&used); err != nil {
			return fmt.Errorf("count %s: %w", quota, err)
		}
		if used > most {
			return &QuotaError{Quota: quota, Most: most}
		}
	}
	return nil
}
