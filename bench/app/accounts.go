package main

import (
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"github.com/dormouse-dev/dormouse/bench/payload"
)

// accounts has a ledger for each stream of messages, whatever brings them.
type accounts struct {
	mu      sync.Mutex                 // guards what follows
	ledgers map[uint64]*payload.Ledger // by stream
	damaged uint64                     // messages
}

func newAccounts() *accounts { return &accounts{ledgers: map[uint64]*payload.Ledger{}} }

// take enters a message and returns the reply to it, which is as long.
func (a *accounts) take(message []byte) (reply []byte, err error) {
	m, err := payload.Decode(message)
	if err := a.enter(m, err); err != nil {
		return nil, err
	}
	m.Reply = true
	return m.Encode(len(message) - payload.HeaderSize), nil
}

func (a *accounts) enter(m payload.Message, damage error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if damage != nil {
		a.damaged++
		return damage
	}
	ledger := a.ledgers[m.Stream]
	if ledger == nil {
		ledger = new(payload.Ledger)
		a.ledgers[m.Stream] = ledger
	}
	ledger.Take(m.Number)
	return nil
}

func (a *accounts) totals() (sum payload.Totals) {
	a.mu.Lock()
	defer a.mu.Unlock()
	sum.Streams, sum.Damaged = len(a.ledgers), a.damaged
	for _, ledger := range a.ledgers {
		sum.Add(*ledger)
	}
	return sum
}

// serveSocket replies to each message of a WebSocket until the other side closes it.
func (a *app) serveSocket(w http.ResponseWriter, r *http.Request) {
	socket, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = socket.CloseNow() }()
	socket.SetReadLimit(maxMessage)
	for {
		_, message, err := socket.Read(r.Context())
		if err != nil {
			return
		}
		reply, err := a.accounts.take(message)
		if err != nil {
			_ = socket.Close(websocket.StatusInvalidFramePayloadData, err.Error())
			return
		}
		if err := socket.Write(r.Context(), websocket.MessageBinary, reply); err != nil {
			return
		}
	}
}
