package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

const (
	fewRows     = 100
	controlRate = 200 // requests per second
	controlTime = 20 * time.Second
	// pageCalls is how often each list page is asked for.
	pageCalls = 200
)

// controlPlane is how fast calls are answered that start no VM, over many rows.
type controlPlane struct {
	rows      int // images, and as many microVMs
	few, many pageTimes
	took      []time.Duration // of each call under load, from the moment it was due
	failed    []error
	slowest   map[string]time.Duration // by call
}

// pageTimes are list calls, one after the other.
type pageTimes struct{ microVMs, images []time.Duration }

// measureControl asks daemons of its own, on databases that were filled beforehand.
func (b *bench) measureControl(ctx context.Context, rows int) (*controlPlane, error) {
	fmt.Println("control plane over", rows, "images and microVMs")
	c := &controlPlane{rows: rows}
	err := b.withRows(ctx, fewRows, func(few *product, _ *seeded) error {
		return b.withRows(ctx, rows, func(many *product, s *seeded) error {
			if err := c.listPages(ctx, few, many); err != nil {
				return err
			}
			c.load(ctx, many, s)
			return ctx.Err()
		})
	})
	return c, err
}

// listPages times pages of both lists, over few and over many rows in turn, so that what else goes on
// in this machine meets both: first ones, and ones in the middle of the rows.
func (c *controlPlane) listPages(ctx context.Context, few, many *product) error {
	var fewAt, manyAt place
	for call := range pageCalls {
		if call == pageCalls/2 {
			var err1, err2 error
			fewAt, err1 = middle(ctx, few)
			manyAt, err2 = middle(ctx, many)
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("page through the lists: %w", err)
			}
		}
		if err := errors.Join(c.few.ask(ctx, few, fewAt), c.many.ask(ctx, many, manyAt)); err != nil {
			return err
		}
	}
	return nil
}

// place is where in both lists a page begins.
type place struct{ microVMs, images *string }

// ask times one page of each list.
func (t *pageTimes) ask(ctx context.Context, p *product, at place) error {
	began := time.Now()
	if _, err := p.api.ListMicrovms(ctx, &awsapi.ListMicrovmsInput{NextToken: at.microVMs}); err != nil {
		return fmt.Errorf("list microVMs: %w", err)
	}
	t.microVMs = append(t.microVMs, time.Since(began))
	began = time.Now()
	if _, err := p.api.ListMicrovmImages(ctx, &awsapi.ListMicrovmImagesInput{NextToken: at.images}); err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	t.images = append(t.images, time.Since(began))
	return nil
}

// middle pages through half of the rows, at most.
func middle(ctx context.Context, p *product) (at place, err error) {
	for range 100 { // pages of 50
		v, err1 := p.api.ListMicrovms(ctx, &awsapi.ListMicrovmsInput{NextToken: at.microVMs})
		i, err2 := p.api.ListMicrovmImages(ctx, &awsapi.ListMicrovmImagesInput{NextToken: at.images})
		if err := errors.Join(err1, err2); err != nil {
			return at, err
		}
		if v.NextToken == nil || i.NextToken == nil {
			break
		}
		at = place{v.NextToken, i.NextToken}
	}
	return at, nil
}

// load sends calls at a fixed rate, whether earlier ones were answered or not.
func (c *controlPlane) load(ctx context.Context, p *product, s *seeded) {
	calls := s.calls(p)
	c.slowest = map[string]time.Duration{}
	var (
		mu      sync.Mutex // guards c
		running sync.WaitGroup
	)
	began := time.Now()
	for n := range int(controlRate * controlTime / time.Second) {
		due := began.Add(time.Duration(n) * time.Second / controlRate)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		call := calls[n%len(calls)]
		running.Go(func() {
			err := call.do(ctx, n)
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			c.took = append(c.took, took)
			c.slowest[call.name] = max(c.slowest[call.name], took)
			if err != nil {
				c.failed = append(c.failed, fmt.Errorf("%s: %w", call.name, err))
			}
		})
	}
	running.Wait()
}

// apiCall is one kind of call; n is different each time.
type apiCall struct {
	name string
	do   func(ctx context.Context, n int) error
}

// calls are those that start no VM; one in eight writes.
func (s *seeded) calls(p *product) []apiCall {
	image := func(n int) string { return s.images[n*7919%len(s.images)] } // 7919 is prime: all of them, in no order
	vm := func(n int) string { return s.microVMs[n*7919%len(s.microVMs)] }
	return []apiCall{
		{"GetMicrovm", func(ctx context.Context, n int) error {
			_, err := p.api.GetMicrovm(ctx, &awsapi.GetMicrovmInput{MicrovmIdentifier: vm(n)})
			return err
		}},
		{"GetMicrovmImage", func(ctx context.Context, n int) error {
			_, err := p.api.GetMicrovmImage(ctx, &awsapi.GetMicrovmImageInput{ImageIdentifier: image(n)})
			return err
		}},
		{"ListMicrovms", func(ctx context.Context, _ int) error {
			_, err := p.api.ListMicrovms(ctx, &awsapi.ListMicrovmsInput{})
			return err
		}},
		{"ListMicrovmImages", func(ctx context.Context, _ int) error {
			_, err := p.api.ListMicrovmImages(ctx, &awsapi.ListMicrovmImagesInput{MaxResults: aws.Int32(20)})
			return err
		}},
		{"GetMicrovmImageVersion", func(ctx context.Context, n int) error {
			_, err := p.api.GetMicrovmImageVersion(ctx, &awsapi.GetMicrovmImageVersionInput{ImageIdentifier: image(n), ImageVersion: "1.0"})
			return err
		}},
		{"ListMicrovmImageVersions", func(ctx context.Context, n int) error {
			_, err := p.api.ListMicrovmImageVersions(ctx, &awsapi.ListMicrovmImageVersionsInput{ImageIdentifier: image(n)})
			return err
		}},
		{"ListTags", func(ctx context.Context, n int) error {
			_, err := p.api.ListTags(ctx, &awsapi.ListTagsInput{Resource: image(n)})
			return err
		}},
		{"TagResource", func(ctx context.Context, n int) error {
			tags := map[string]string{"bench": fmt.Sprint(n)}
			_, err := p.api.TagResource(ctx, &awsapi.TagResourceInput{Resource: image(n), Tags: tags})
			return err
		}},
	}
}
