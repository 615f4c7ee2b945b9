package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// seeded is what the rows in a database are called.
type seeded struct {
	images   []string // ARNs
	microVMs []string // ids
}

// withRows runs a daemon on a data folder of its own that knows rows images and rows terminated microVMs.
func (b *bench) withRows(ctx context.Context, rows int, use func(*product, *seeded) error) (err error) {
	dir := filepath.Join(b.scratch, fmt.Sprintf("rows-%d", rows))
	d, err := startDaemon(ctx, b.options.binary, dir) // which makes account and keys
	if err != nil {
		return err
	}
	env, err := d.environment(ctx)
	if err := errors.Join(err, d.stop()); err != nil {
		return err
	}
	s, err := seed(ctx, filepath.Join(dir, "dormouse.db"), env["AWS_REGION"], rows)
	if err != nil {
		return fmt.Errorf("fill the database: %w", err)
	}
	if d, err = startDaemon(ctx, b.options.binary, dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	p, err := connect(ctx, d)
	if err != nil {
		return err
	}
	return use(p, s)
}

// account is the one a daemon begins with.
const account = "000000000000"

// seed fills a database in memory, where syncing costs nothing, and puts it back.
func seed(ctx context.Context, database, region string, rows int) (*seeded, error) {
	dir, err := os.MkdirTemp("/dev/shm", "dormouse-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	working := filepath.Join(dir, "dormouse.db")
	if err := copyFile(working, database); err != nil {
		return nil, err
	}
	records, err := store.Open(ctx, working, store.Quotas{})
	if err != nil {
		return nil, err
	}
	s := &seeded{}
	for n := range rows {
		if err := s.add(ctx, records, region, n); err != nil {
			return nil, errors.Join(err, records.Close())
		}
	}
	if err := records.Close(); err != nil { // which folds the write-ahead log back
		return nil, err
	}
	return s, copyFile(database, working)
}

// add stores one image with a version that was built, and one microVM of it that has ended.
func (s *seeded) add(ctx context.Context, records *store.Store, region string, n int) error {
	now := time.Now()
	i := store.Image{
		ID: uuid.NewString(), AccountID: account, Region: region, Name: fmt.Sprintf("image-%d", n),
		State: store.ImageCreated, CreatedAt: now, UpdatedAt: now,
	}
	v := store.ImageVersion{
		ImageID: i.ID, Version: "1.0", Major: 1, State: store.VersionSuccessful, Status: store.StatusActive,
		Config: store.ImageConfig{MinimumMemoryMiB: memoryClass}, CreatedAt: now, UpdatedAt: now,
	}
	build := store.Build{ID: uuid.NewString(), ImageID: i.ID, Version: v.Version, State: store.BuildSuccessful, CreatedAt: now, EndedAt: now}
	if err := records.CreateImage(ctx, i, v, build, nil, store.Event{Subject: i.ID, To: i.State, At: now}); err != nil {
		return err
	}
	name := arn.Image{Region: region, Account: account, Name: i.Name}.String()
	m := store.MicroVM{
		ID: "microvm-" + uuid.NewString(), AccountID: account, Region: region, ImageID: i.ID, ImageARN: name, ImageVersion: v.Version,
		State: store.VMTerminated, StateReason: "Success.", EndpointID: uuid.NewString(), MaximumDuration: time.Hour,
		StartedAt: now, TerminatedAt: now,
	}
	if err := records.InsertMicroVM(ctx, m, nil, store.Event{Subject: m.ID, To: m.State, At: now}); err != nil {
		return err
	}
	s.images, s.microVMs = append(s.images, name), append(s.microVMs, m.ID)
	return nil
}

func copyFile(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Sync(), target.Close())
}
