package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dormouse-dev/dormouse/bench/payload"
)

const (
	steadyReaders = 2
	steadyWriters = 2
	steadyBody    = 8 << 10 // bytes, of an answer to a reader and of a writer's message
	// flowLimit bounds the wait for traffic after a wake.
	flowLimit = time.Minute
)

// failure is one request that was not answered as it must be.
type failure struct {
	Round   int    `json:"round"`
	Request string `json:"request"`
	Status  int    `json:"status,omitempty"` // 0: no answer, or wrong bytes
	Code    string `json:"proxy_error,omitempty"`
	Error   string `json:"error"`
}

// traffic is clients that ask one after the other without a pause, each over a connection of its own.
type traffic struct {
	cancel  context.CancelFunc
	clients sync.WaitGroup
	round   atomic.Int64
	begun   atomic.Int64 // requests
	failed  atomic.Int64
	done    []atomic.Int64 // by client: the newest request that was answered, as begun counts

	mu       sync.Mutex // guards what follows
	requests int
	slowest  time.Duration
	failures []failure
	sent     uint64
}

func startTraffic(ctx context.Context, connect func() *way) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{cancel: cancel, done: make([]atomic.Int64, steadyReaders+steadyWriters)}
	for n := range t.done {
		ask := t.read
		if n >= steadyReaders {
			ask = t.write
		}
		t.clients.Go(func() {
			way := connect()
			defer way.close()
			for number := uint64(0); ctx.Err() == nil; number++ {
				begun := t.begun.Add(1)
				began := time.Now()
				// Not with ctx: a request that has begun is answered, whenever the traffic is to end.
				request, err := ask(context.WithoutCancel(ctx), way, uint64(n), number)
				t.record(request, time.Since(began), err)
				t.done[n].Store(begun)
			}
		})
	}
	return t
}

// stop returns when the last requests have their answers.
func (t *traffic) stop() {
	t.cancel()
	t.clients.Wait()
}

// await returns when each client has an answer to a request that it began after now.
func (t *traffic) await(ctx context.Context) error {
	now := t.begun.Load()
	for deadline := time.Now().Add(flowLimit); ; time.Sleep(pollEvery) {
		waiting := 0
		for n := range t.done {
			if t.done[n].Load() <= now {
				waiting++
			}
		}
		switch {
		case waiting == 0:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(deadline):
			return fmt.Errorf("%d clients have had no answer for %v", waiting, flowLimit)
		}
	}
}

// read asks for bytes, which changes nothing.
func (t *traffic) read(ctx context.Context, w *way, client, number uint64) (request string, err error) {
	seed := client<<32 | number
	return "GET /bytes", w.fetch(ctx, seed, steadyBody)
}

// write sends a message, which must arrive once and be replied to.
func (t *traffic) write(ctx context.Context, w *way, client, number uint64) (request string, err error) {
	t.mu.Lock()
	t.sent++
	t.mu.Unlock()
	request = "POST /message"
	m := payload.Message{Stream: client, Number: number}
	answer, err := w.ask(ctx, http.MethodPost, "/message", m.Encode(steadyBody))
	if err != nil {
		return request, err
	}
	reply, err := payload.Decode(answer)
	m.Reply = true
	if err == nil && reply != m {
		err = fmt.Errorf("%w: a reply to another message", payload.ErrDamaged)
	}
	return request, err
}

func (t *traffic) record(request string, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	t.slowest = max(t.slowest, took)
	if err == nil {
		return
	}
	t.failed.Add(1)
	f := failure{Round: int(t.round.Load()), Request: request, Error: err.Error()}
	var refused refusal
	if errors.As(err, &refused) {
		f.Status, f.Code = refused.status, refused.code
	}
	t.failures = append(t.failures, f)
}
