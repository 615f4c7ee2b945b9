package extension

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/pagetoken"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// events lists what happened to one of the caller's microVMs or images, or to all of them.
func (h *Handler) events(ctx context.Context, c awsapi.Caller, rawQuery string) (*EventsOutput, error) {
	in, err := parseEvents(rawQuery)
	if err != nil {
		return nil, err
	}
	listing := pagetoken.Listing{
		Operation: Prefix + "events", Account: c.AccountID, Region: c.Region, Filters: map[string]string{"subject": in.Subject},
	}
	page := store.Page{Limit: in.MaxResults}
	if in.NextToken != "" {
		cursor, err := h.Pages.Open(listing, in.NextToken)
		if err == nil {
			page.After, err = strconv.ParseInt(cursor, 10, 64)
		}
		if err != nil {
			return nil, awsapi.Validation("Invalid nextToken").WithCause(err)
		}
	}
	out := &EventsOutput{}
	var cursor int64
	if in.Subject == "" {
		cursor, err = h.accountEvents(ctx, c, page, out)
	} else {
		cursor, err = h.subjectEvents(ctx, c, in.Subject, page, out)
	}
	if err != nil {
		return nil, err
	}
	if cursor != 0 {
		token := h.Pages.Seal(listing, strconv.FormatInt(cursor, 10))
		out.NextToken = &token
	}
	return out, nil
}

func (h *Handler) accountEvents(ctx context.Context, c awsapi.Caller, page store.Page, out *EventsOutput) (int64, error) {
	events, cursor, err := h.Store.AccountEvents(ctx, c.AccountID, c.Region, page)
	for _, e := range events {
		subject := e.Subject
		if e.ImageName != "" {
			subject = arn.Image{Region: c.Region, Account: c.AccountID, Name: e.ImageName}.String()
		}
		out.Events = append(out.Events, wireEvent(e.Event, subject))
	}
	return cursor, err
}

func (h *Handler) subjectEvents(ctx context.Context, c awsapi.Caller, subject string, page store.Page, out *EventsOutput) (int64, error) {
	id, err := h.subjectID(ctx, c, subject)
	if err != nil {
		return 0, err
	}
	events, cursor, err := h.Store.Events(ctx, id, page)
	for _, e := range events {
		out.Events = append(out.Events, wireEvent(e, subject))
	}
	return cursor, err
}

// subjectID is the id under which events of one of the caller's microVMs or images are kept.
func (h *Handler) subjectID(ctx context.Context, c awsapi.Caller, subject string) (string, error) {
	if !strings.HasPrefix(subject, "arn:") {
		vm, err := h.ownMicroVM(ctx, c, subject)
		return vm.ID, err
	}
	image, err := arn.ParseImage(subject)
	if err != nil {
		return "", awsapi.Validation("Invalid ARN format: %s", subject)
	}
	missing := awsapi.NotFound("MicroVMImage not found for MicroVMImageID: %s", subject)
	if image.Account != c.AccountID || image.Region != c.Region {
		return "", missing
	}
	row, err := h.Store.ImageByName(ctx, image.Account, image.Region, image.Name)
	return row.ID, orMissing(err, missing)
}

func wireEvent(e store.Event, subject string) Event {
	return Event{
		At: awsapi.At(e.At), Subject: subject, Operation: e.Operation, From: e.From, To: e.To,
		Cause: e.Cause, RequestID: e.RequestID, Detail: e.Detail, Phases: wirePhases(e.Phases),
	}
}

func wirePhases(phases []store.Phase) (wire []Phase) {
	for _, p := range phases {
		wire = append(wire, Phase{p.Name, p.Duration.Seconds()})
	}
	return wire
}

// ownMicroVM finds one of the caller's microVMs. Those of other accounts and regions are not found.
func (h *Handler) ownMicroVM(ctx context.Context, c awsapi.Caller, id string) (store.MicroVM, error) {
	missing := awsapi.NotFound("MicroVM not found: %s", id)
	vm, err := h.Store.MicroVM(ctx, id)
	if err == nil && (vm.AccountID != c.AccountID || vm.Region != c.Region) {
		return store.MicroVM{}, missing
	}
	return vm, orMissing(err, missing)
}

// orMissing answers missing where a row is, and leaves other errors to the edge.
func orMissing(err error, missing *awsapi.Error) error {
	if errors.Is(err, store.ErrNotFound) {
		return missing
	}
	return err
}
