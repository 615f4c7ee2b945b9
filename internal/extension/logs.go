package extension

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// How often a log that is followed is looked at. Those of console and VMM have to be asked for.
const (
	filePoll = 200 * time.Millisecond
	lookPoll = time.Second
)

// source is a log that a request is for.
type source struct {
	path    string
	app     bool // the file has the form of logfile.App
	poll    time.Duration
	refresh func(ctx context.Context)               // brings the file up to date; nil: it always is
	ended   func(ctx context.Context) (bool, error) // nothing more will be written
}

// logs streams a log. It returns an error only where nothing was answered.
func (h *Handler) logs(w http.ResponseWriter, r *http.Request, c awsapi.Caller, rawQuery string) error {
	in, err := parseLogs(rawQuery)
	if err != nil {
		return err
	}
	ctx := r.Context()
	log, err := h.source(ctx, c, in)
	if err != nil {
		return err
	}
	leave, err := h.streams.enter(c.AccountID)
	if err != nil {
		return err
	}
	defer leave()
	if log.app {
		defer h.MicroVMs.Listen(in.Source)()
		if !in.Follow {
			h.MicroVMs.CatchUp(ctx, in.Source)
		}
	}
	if log.refresh != nil {
		log.refresh(ctx)
	}
	var skipped func() []byte
	if log.app {
		skipped = func() []byte { return logfile.Skipped(h.Clock.Now()) }
	}
	file, err := logfile.Open(log.path, skipped)
	if err != nil {
		return err
	}
	defer file.Close()
	body, err := newBody(file, log.app, in)
	if err != nil {
		return err
	}
	if in.Follow {
		err = h.follow(ctx, newResponse(w), body, log)
	} else {
		err = body.end(newResponse(w))
	}
	if err != nil && ctx.Err() == nil {
		h.Log.DebugContext(ctx, "log was cut off", "account", c.AccountID, "source", in.Source, "error", err)
	}
	return nil
}

// follow writes what there is and what comes, until the log has ended or nobody wants more.
func (h *Handler) follow(ctx context.Context, to *response, body *body, log source) error {
	for {
		// Before the reading: what was written before the end must be read.
		ended, err := log.ended(ctx)
		if err != nil {
			return err
		}
		if ended {
			return body.end(to)
		}
		if err := body.copy(to); err != nil {
			return err
		}
		select {
		case <-h.Clock.After(log.poll):
		case <-ctx.Done():
			return nil
		case <-h.Stopping:
			return body.copy(to)
		}
		if log.refresh != nil {
			log.refresh(ctx)
		}
	}
}

// source finds a log of the caller's.
func (h *Handler) source(ctx context.Context, c awsapi.Caller, in LogsInput) (source, error) {
	vm, err := h.ownMicroVM(ctx, c, in.Source)
	var refused *awsapi.Error
	switch {
	case err == nil:
		return h.microVMLog(vm, in.Kind)
	case !errors.As(err, &refused) || strings.HasPrefix(in.Source, "microvm-"):
		return source{}, err
	}
	b, _, err := h.ownBuild(ctx, c, in.Source)
	if errors.As(err, &refused) {
		err = awsapi.NotFound("Neither a MicroVM nor a MicroVMImageBuild found: %s", in.Source)
	}
	if err != nil {
		return source{}, err
	}
	if in.Kind != "" && in.Kind != BuildLog {
		return source{}, awsapi.Validation("A build has a log of kind build only.")
	}
	return source{path: h.BuildLog(b.ID), poll: filePoll, ended: func(ctx context.Context) (bool, error) {
		b, err := h.Store.Build(ctx, b.ID)
		if errors.Is(err, store.ErrNotFound) { // its image was deleted
			return true, nil
		}
		return !b.EndedAt.IsZero(), err
	}}, nil
}

func (h *Handler) microVMLog(vm store.MicroVM, kind Kind) (source, error) {
	id := vm.ID
	if kind != VMMLog && loggroup.Disabled(vm.WireLogging) {
		return source{}, awsapi.Validation("Logging is disabled for MicroVM %s: nothing of what its app and its guest write is kept.", id)
	}
	s := source{poll: lookPoll, refresh: func(ctx context.Context) { h.MicroVMs.Look(ctx, id) }}
	switch kind {
	case "", AppLog:
		s = source{path: h.Logs.Path(id, logfile.AppName), app: true, poll: filePoll}
	case ConsoleLog:
		s.path = h.Logs.Path(id, logfile.ConsoleName)
	case VMMLog:
		s.path = h.Logs.Path(id, logfile.VMMName)
	default:
		return s, awsapi.Validation("A MicroVM has logs of the kinds app, console and vmm only.")
	}
	s.ended = func(ctx context.Context) (bool, error) {
		vm, err := h.Store.MicroVM(ctx, id)
		if errors.Is(err, store.ErrNotFound) { // purged
			return true, nil
		}
		return vm.State == store.VMTerminated, err
	}
	return s, nil
}
