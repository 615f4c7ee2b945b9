package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// purgeBatch is how many rows go in one transaction, so that none holds the database for long.
const purgeBatch = 100

// purgeEvery is how often microVMs are looked for that have been TERMINATED for longer than keep:
// often enough that none is listed much longer.
func purgeEvery(keep time.Duration) time.Duration {
	return min(max(keep/4, time.Second), time.Hour)
}

// purge forgets microVMs that were TERMINATED longer ago than keep, and their logs, until ctx ends.
func purge(ctx context.Context, records *store.Store, logs *logfile.Folder, keep time.Duration, clock clockwork.Clock, log *slog.Logger) {
	if err := removeOrphans(ctx, records, logs); err != nil && ctx.Err() == nil {
		log.Error("logs of microVMs that are forgotten could not be removed", "error", err)
	}
	tick := clock.NewTicker(purgeEvery(keep))
	defer tick.Stop()
	for {
		purgeOnce(ctx, records, logs, clock.Now().Add(-keep), log)
		select {
		case <-ctx.Done():
			return
		case <-tick.Chan():
		}
	}
}

// purgeOnce forgets microVMs that were TERMINATED before a time.
func purgeOnce(ctx context.Context, records *store.Store, logs *logfile.Folder, before time.Time, log *slog.Logger) {
	for {
		ids, err := records.PurgeTerminated(ctx, before, purgeBatch)
		for _, id := range ids {
			err = errors.Join(err, logs.Remove(id))
		}
		if err != nil && ctx.Err() == nil {
			log.Error("terminated microVMs could not be purged", "error", err)
		}
		if err != nil || len(ids) == 0 {
			return
		}
	}
}

// removeOrphans removes the logs of microVMs that have no row: the daemon ended between the two.
func removeOrphans(ctx context.Context, records *store.Store, logs *logfile.Folder) error {
	ids, err := logs.IDs()
	for _, id := range ids {
		_, known := records.MicroVM(ctx, id)
		if errors.Is(known, store.ErrNotFound) {
			known = logs.Remove(id)
		}
		err = errors.Join(err, known)
	}
	return err
}
