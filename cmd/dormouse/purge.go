package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const (
	purgeEvery = time.Hour
	purgeBatch = 100 // rows per transaction, so that none holds the database for long
)

// purge forgets microVMs that were TERMINATED longer ago than keep, and their logs, until ctx ends.
func purge(ctx context.Context, records *store.Store, logs *logfile.Folder, keep time.Duration, log *slog.Logger) {
	if err := removeOrphans(ctx, records, logs); err != nil && ctx.Err() == nil {
		log.Error("logs of microVMs that are forgotten could not be removed", "err", err)
	}
	tick := time.NewTicker(purgeEvery)
	defer tick.Stop()
	for {
		for {
			ids, err := records.PurgeTerminated(ctx, time.Now().Add(-keep), purgeBatch)
			for _, id := range ids {
				err = errors.Join(err, logs.Remove(id))
			}
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
