package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// recordTime bounds one write to the store that has to happen even while the daemon stops.
const recordTime = 30 * time.Second

// outcomes are the states a build takes its image to (spec/behaviour.md 3).
var outcomes = map[string]struct{ succeeded, failed string }{
	store.ImageCreating: {store.ImageCreated, store.ImageCreateFailed},
	store.ImageUpdating: {store.ImageUpdated, store.ImageUpdateFailed},
}

// started records that the build is no longer queued.
func (p *pipeline) started(ctx context.Context) error {
	p.build.State = store.BuildInProgress
	now := p.m.cfg.Clock.Now()
	err := p.m.cfg.Records.ChangeImage(ctx, store.ImageChange{
		ImageID: p.image.ID, From: []string{p.image.State},
		Version: p.version.Version, VersionState: store.VersionInProgress,
		Build: &p.build, At: now,
		Events: []store.Event{p.event(now).OfVersion(p.version.Version, p.version.State, store.VersionInProgress)},
	})
	if err == nil {
		p.version.State = store.VersionInProgress
	}
	return err
}

// event is what all events of this build have in common.
func (p *pipeline) event(at time.Time) store.Event {
	return store.Event{
		Subject: p.image.ID, Operation: "build " + p.version.Version,
		Cause: "build", RequestID: p.requestID, At: at,
	}
}

// publish moves the snapshot to its place and makes the version runnable. A crash in between
// leaves an unfinished build, whose folders Recover removes.
func (p *pipeline) publish(made *snapshot.Image) error {
	dir := microvm.ImageDir(p.m.cfg.Dir, p.image.ID, p.version.Version)
	if err := moveDurably(p.result(), dir); err != nil {
		return fmt.Errorf("publish snapshot: %w", err)
	}
	p.build.State = store.BuildSuccessful
	p.build.CodeBytes, p.build.MemoryBytes, p.build.DiskBytes = made.RootBytes, made.MemoryBytes, made.DiskBytes
	if err := p.record(outcomes[p.image.State].succeeded, store.VersionSuccessful, store.StatusActive, ""); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	p.log.note("The image is ready")
	p.finish()
	return nil
}

// fail records why the build failed. Nothing of it remains but its log.
func (p *pipeline) fail(cause error) {
	why := reasonOf(cause)
	p.log.note("The build failed: %s", why.stateReason())
	p.m.cfg.Log.Warn("image build failed", "image", p.image.ID, "version", p.version.Version, "build", p.build.ID,
		"reason", why.stateReason(), "error", cause)
	p.build.State = store.BuildFailed
	p.build.StateReason, p.build.ReasonCode, p.build.LogTail = why.stateReason(), why.code, p.log.lastLines()
	p.build.CodeBytes, p.build.MemoryBytes, p.build.DiskBytes = 0, 0, 0
	p.finish()
	if err := p.record(outcomes[p.image.State].failed, store.VersionFailed, store.StatusInactive, why.stateReason()); err != nil {
		p.m.cfg.Log.Error("image build could not be recorded", "image", p.image.ID, "build", p.build.ID, "error", err)
	}
}

// finish removes the build's folder and closes its log.
func (p *pipeline) finish() {
	if err := errors.Join(os.RemoveAll(p.dir), p.log.close()); err != nil {
		p.m.cfg.Log.Error("image build left something behind", "build", p.build.ID, "error", err)
	}
}

// record writes the end of the build. It does not depend on the context of the build, which may
// have ended.
func (p *pipeline) record(imageState, versionState, status, detail string) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	now := p.m.cfg.Clock.Now()
	p.build.Phases, p.build.EndedAt = p.phases.End(), now
	e := p.event(now)
	e.From, e.To, e.Detail, e.Phases = p.image.State, imageState, detail, p.build.Phases
	return p.m.cfg.Records.ChangeImage(ctx, store.ImageChange{
		ImageID: p.image.ID, From: []string{p.image.State}, To: imageState,
		Version: p.version.Version, VersionState: versionState, VersionStatus: status,
		Build: &p.build, At: now,
		Events: []store.Event{e.OfVersion(p.version.Version, p.version.State, versionState), e},
	})
}

// moveDurably renames a folder on one file system so that it survives a power cut.
func moveDurably(from, to string) error {
	parent := filepath.Dir(to)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	if err := snapshot.SyncDir(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(snapshot.SyncDir(parent), snapshot.SyncDir(filepath.Dir(parent)))
}
