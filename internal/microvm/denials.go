package microvm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// A guest may ask for what it does not get as often as it likes. What that leaves in the database is
// bounded: equal refusals within denialDelay are one event, and beyond denialsPerHour events only
// their number is kept, as one more event.
const (
	denialDelay    = time.Second
	denialsPerHour = 60
	denialPeriod   = time.Hour
)

// denials turns what the network refuses to one microVM into its events, off the path of the network.
type denials struct {
	v *vm

	mu      sync.Mutex // guards all below
	writing bool       // a goroutine will come to see what is pending
	pending []denied
	more    int       // refusals of the present period that are told by their number alone
	due     int       // those of an earlier one, whose number is to be told now
	began   time.Time // of the present period
	told    int       // events of it
}

// denied is one refusal and how often it came.
type denied struct {
	netstack.Denial
	times int
}

// add takes note of a refusal.
func (d *denials) add(refusal netstack.Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.v.m.clock.Now()
	if now.Sub(d.began) >= denialPeriod {
		d.due += d.more
		d.began, d.told, d.more = now, 0, 0
	}
	d.note(refusal)
	if !d.writing {
		d.writing = d.v.m.goLoose(d.write)
	}
}

// note is called with mu held.
func (d *denials) note(refusal netstack.Denial) {
	for i := range d.pending {
		if d.pending[i].Denial == refusal {
			d.pending[i].times++
			return
		}
	}
	if d.told >= denialsPerHour {
		d.more++
		return
	}
	d.told++
	d.pending = append(d.pending, denied{refusal, 1})
}

// write records what is pending until there is nothing more.
func (d *denials) write() {
	wait := denialDelay
	for {
		last := d.rest(wait)
		events, next := d.take(last)
		for _, text := range events {
			e := store.Event{Subject: d.v.id, Operation: "egress", Cause: causePolicy, Detail: text, At: d.v.m.clock.Now()}
			if err := d.v.m.cfg.Records.AddEvent(context.Background(), e); err != nil {
				d.v.m.log.Error("a refused connection cannot be recorded", "microvm", d.v.id, "error", err)
			}
		}
		if next == 0 {
			return
		}
		wait = next
	}
}

// rest waits; true when nothing more can come.
func (d *denials) rest(wait time.Duration) (last bool) {
	timer := d.v.m.clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return false
	case <-d.v.ended:
	case <-d.v.m.running.Done():
	}
	return true
}

// take returns what is to be recorded now and when to come again, 0 for not.
func (d *denials) take(last bool) (events []string, next time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pending {
		text := p.String()
		if p.times > 1 {
			text += fmt.Sprintf(" (%d times)", p.times)
		}
		events = append(events, text)
	}
	d.pending = nil
	left := d.began.Add(denialPeriod).Sub(d.v.m.clock.Now())
	if last || left <= 0 {
		d.due, d.more = d.due+d.more, 0
	}
	if d.due > 0 {
		events = append(events, fmt.Sprintf("refused %d more, beyond %d in an hour", d.due, denialsPerHour))
		d.due = 0
	}
	switch {
	case d.more > 0: // and nothing is told singly before the period ends
		return events, left
	case len(events) > 0 && !last:
		return events, denialDelay // it ends when a delay has passed without one
	}
	d.writing = false
	return events, 0
}

// maxNoted bounds the lines of a build's log that tell of refusals.
const maxNoted = 20

// noteDenials tells of the refusals to a helper of a build, each kind once.
func noteDenials(note func(text string)) func(netstack.Denial) {
	var mu sync.Mutex // guards noted
	noted := map[netstack.Denial]bool{}
	return func(d netstack.Denial) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case noted[d] || len(noted) > maxNoted:
			return
		case len(noted) == maxNoted:
			note("more was refused than is told here")
		default:
			note("network: " + d.String() + "; the image's egress connectors do not allow it")
		}
		noted[d] = true
	}
}
