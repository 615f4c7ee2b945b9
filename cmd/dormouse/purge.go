package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// purgeBatch is how many rows go in one transaction, so that none holds the database for long.
const purgeBatch = 100

// purgeEvery is how often microVMs are looked for that have been TERMINATED for longer than keep:
// often enough that none is listed much longer.
func purgeEvery(keep time.Duration) time.Duration {
	return min(max(keep/4, time.Second), time.Hour)
}

// purge forgets microVMs that were TERMINATED longer ago than keep, until ctx ends.
func purge(ctx context.Context, records *store.Store, keep time.Duration, clock clockwork.Clock, log *slog.Logger) {
	tick := clock.NewTicker(purgeEvery(keep))
	defer tick.Stop()
	for {
		purgeOnce(ctx, records, clock.Now().Add(-keep), log)
		select {
		case <-ctx.Done():
			return
		case <-tick.Chan():
		}
	}
}

// purgeOnce forgets microVMs that were TERMINATED before a time.
func purgeOnce(ctx context.Context, records *store.Store, before time.Time, log *slog.Logger) {
	for {
		ids, err := records.PurgeTerminated(ctx, before, purgeBatch)
		if err != nil && ctx.Err() == nil {
			log.Error("terminated microVMs could not be purged", "err", err)
		}
		if err != nil || len(ids) == 0 {
			return
		}
	}
}
