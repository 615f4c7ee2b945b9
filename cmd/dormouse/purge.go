package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/dormouse-dev/dormouse/internal/store"
)

const (
	purgeEvery = time.Hour
	purgeBatch = 100 // rows per transaction, so that none holds the database for long
)

// purge forgets microVMs that were TERMINATED longer ago than keep, until ctx ends.
func purge(ctx context.Context, records *store.Store, keep time.Duration, log *slog.Logger) {
	tick := time.NewTicker(purgeEvery)
	defer tick.Stop()
	for {
		for {
			ids, err := records.PurgeTerminated(ctx, time.Now().Add(-keep), purgeBatch)
			if err != nil && ctx.Err() == nil {
				log.Error("terminated microVMs could not be purged", "err", err)
			}
			if err != nil || len(ids) == 0 {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
