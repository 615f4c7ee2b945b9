package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

// eventStream is what lines of an app's log have for a stream that tell what happened to its microVM. No app can
// write to it.
const eventStream = "event"

// eventPoll is how often a log that is followed is looked after for events.
const eventPoll = time.Second

// eventful puts what happened to a microVM between the lines of its app's log, by their times.
type eventful struct {
	load    func(ctx context.Context) ([]extension.Event, error) // newest first
	pending []extension.Event                                    // oldest first, not written yet
	known   map[string]bool                                      // what was loaded before
	begun   bool
	tail    bool // leave out what happened before the first line
}

// withEvents reads a log and what happened, and goes on with both if it follows. It ends with the log.
func (s *session) withEvents(ctx context.Context, log io.Reader, in extension.LogsInput) io.ReadCloser {
	e := &eventful{known: map[string]bool{}, tail: in.Tail != nil, load: func(ctx context.Context) ([]extension.Event, error) { return s.events(ctx, in.Source, eventPage) }}
	read, write := io.Pipe()
	go func() { write.CloseWithError(e.merge(ctx, log, write, in.Follow)) }()
	return read
}

// merge writes both until the log ends.
func (e *eventful) merge(ctx context.Context, log io.Reader, to io.Writer, follow bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	lines, ended := make(chan string), make(chan error, 1)
	go func() {
		scanner := bufio.NewScanner(log)
		scanner.Buffer(nil, maxAppLine)
		for scanner.Scan() {
			select {
			case lines <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
		ended <- scanner.Err()
	}()
	if err := e.refresh(ctx); err != nil {
		return err
	}
	var look <-chan time.Time
	if follow {
		ticker := time.NewTicker(eventPoll)
		defer ticker.Stop()
		look = ticker.C
	}
	for {
		select {
		case line := <-lines:
			if err := e.line(to, line); err != nil {
				return err
			}
		case err := <-ended:
			if follow && err == nil {
				err = e.refresh(ctx) // its end
			}
			if err == nil {
				err = e.before(to, time.Time{})
			}
			return err
		case <-look:
			if err := e.refresh(ctx); err != nil {
				return err
			}
			if err := e.before(to, time.Time{}); err != nil {
				return err
			}
		}
	}
}

// refresh loads what has happened since the last time.
func (e *eventful) refresh(ctx context.Context) error {
	all, err := e.load(ctx)
	for i := len(all) - 1; err == nil && i >= 0; i-- {
		if key := all[i].At.Format(time.RFC3339Nano) + " " + eventWords(all[i]); !e.known[key] {
			e.known[key] = true
			e.pending = append(e.pending, all[i])
		}
	}
	return err
}

// line writes a line of the log, and before it what happened before.
func (e *eventful) line(to io.Writer, line string) error {
	text, _, _ := strings.Cut(line, " ")
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		if !e.begun && e.tail {
			e.skip(at)
		}
		e.begun = true
		if err := e.before(to, at); err != nil {
			return err
		}
	}
	_, err := io.WriteString(to, line+"\n")
	return err
}

// skip leaves out what happened before a time.
func (e *eventful) skip(at time.Time) {
	for len(e.pending) > 0 && e.pending[0].At.Before(at) {
		e.pending = e.pending[1:]
	}
}

// before writes what happened before a time; the zero time is all there is.
func (e *eventful) before(to io.Writer, at time.Time) error {
	for len(e.pending) > 0 && (at.IsZero() || !e.pending[0].At.After(at)) {
		next := e.pending[0]
		e.pending = e.pending[1:]
		if _, err := fmt.Fprintf(to, "%s %s %s\n", next.At.UTC().Format("2006-01-02T15:04:05.000000Z"), eventStream, eventWords(next)); err != nil {
			return err
		}
	}
	return nil
}

// eventWords is what happened, in one line.
func eventWords(e extension.Event) string {
	var words []string
	add := func(prefix, text string) {
		if text != "" {
			words = append(words, prefix+text)
		}
	}
	add("", e.To) // none of what egress policy refused
	add("by ", e.Cause)
	if len(e.Phases) > 0 {
		add("", terminal.Total(phasesOf(e)))
	}
	add("", sizes.ReplaceAllStringFunc(e.Detail, sizeInWords))
	return terminal.SafeLine(e.Operation + ": " + strings.Join(words, ", "))
}
