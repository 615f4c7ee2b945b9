package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/dormouse-dev/dormouse/bench/payload"
)

const (
	socketVMs = 20
	// socketWindow is how many messages of a socket are under way at most.
	socketWindow = 4
	// socketDials is how many handshakes are under way at most.
	socketDials = 32
	// lastReplies bounds the wait for replies after the last message was sent.
	lastReplies = time.Minute
)

// sockets accounts for every message of many WebSockets to many VMs, on both sides.
type sockets struct {
	vms, opened int
	lasted      time.Duration // from the first message to the last reply
	sent        uint64
	arrived     payload.Totals // what the guests say they got
	returned    payload.Ledger // replies
	damaged     uint64         // replies
	failed      []error        // of sockets that did not live to their end
}

// lost is messages that did not arrive, and replies that did not come back.
func (s *sockets) lost() uint64 { return s.arrived.Missing(s.sent) + s.returned.Missing(s.sent) }

// wrong is messages and replies that were damaged, or came again.
func (s *sockets) wrong() uint64 {
	return s.arrived.Damaged + s.arrived.Repeated + s.damaged + s.returned.Repeated
}

func (d *dataPlane) measureSockets(ctx context.Context) (s *sockets, err error) {
	perVM := d.bench.options.sockets / socketVMs
	fmt.Println(perVM*socketVMs, "WebSockets over", socketVMs, "VMs")
	crowd := d.product.burst(ctx, socketVMs)
	defer func() {
		for _, vm := range crowd.vms {
			err = errors.Join(err, d.product.terminate(ctx, vm))
		}
	}()
	if err := errors.Join(crowd.failed...); err != nil {
		return nil, err
	}
	all, err := d.dialSockets(ctx, crowd.vms, perVM)
	if err != nil {
		return nil, err
	}
	s = &sockets{vms: socketVMs, opened: len(all)}
	s.talk(ctx, all, d.bench.options.socketTime)
	for _, vm := range crowd.vms {
		way := d.product.endpoint(vm)
		answer, err := way.ask(ctx, http.MethodGet, "/accounts", nil)
		way.close()
		if err != nil {
			return nil, fmt.Errorf("ask %s for its accounts: %w", vm.id, err)
		}
		var totals payload.Totals
		if err := json.Unmarshal(answer, &totals); err != nil {
			return nil, err
		}
		s.arrived.Add(totals.Ledger)
		s.arrived.Damaged += totals.Damaged
		s.arrived.Streams += totals.Streams
	}
	printErrors(s.failed)
	return s, nil
}

func (d *dataPlane) dialSockets(ctx context.Context, vms []microVM, perVM int) ([]*socket, error) {
	all := make([]*socket, perVM*len(vms))
	dials, dialCtx := errgroup.WithContext(ctx)
	dials.SetLimit(socketDials)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: d.product.roots}}
	for n := range all {
		vm := vms[n%len(vms)]
		dials.Go(func() error {
			ctx, cancel := context.WithTimeout(dialCtx, requestLimit)
			defer cancel()
			conn, _, err := websocket.Dial(ctx, "wss://"+vm.endpoint+"/socket", &websocket.DialOptions{ //nolint:bodyclose // Dial closes it
				HTTPClient: &http.Client{Transport: transport}, HTTPHeader: http.Header{tokenHeader: {vm.token}},
			})
			if err != nil {
				return fmt.Errorf("open WebSocket %d, to %s: %w", n, vm.id, err)
			}
			conn.SetReadLimit(mebibyte)
			all[n] = &socket{conn: conn, stream: uint64(n)}
			return nil
		})
	}
	return all, dials.Wait()
}

// talk has all sockets send for some time, and waits for the last replies.
func (s *sockets) talk(ctx context.Context, all []*socket, lasting time.Duration) {
	began := time.Now()
	var talking sync.WaitGroup
	for _, socket := range all {
		talking.Go(func() { socket.talk(ctx, began.Add(lasting)) })
	}
	talking.Wait()
	s.lasted = time.Since(began)
	for _, socket := range all {
		s.sent += socket.sent
		s.returned.Add(socket.returned)
		s.damaged += socket.damaged
		if socket.failed != nil {
			s.failed = append(s.failed, fmt.Errorf("WebSocket %d, after %d messages: %w", socket.stream, socket.sent, socket.failed))
		}
	}
}

// socket is one WebSocket and its account.
type socket struct {
	conn     *websocket.Conn
	stream   uint64
	sent     uint64
	returned payload.Ledger
	damaged  uint64
	failed   error
}

// talk sends until the time is over, reads the replies meanwhile, and closes the socket.
func (s *socket) talk(ctx context.Context, until time.Time) {
	ctx, cancel := context.WithDeadlineCause(ctx, until.Add(lastReplies), errors.New("replies did not come"))
	defer cancel()
	window := make(chan struct{}, socketWindow)
	ended := make(chan struct{}) // nothing is read any more
	var unread error
	go func() {
		defer close(ended)
		unread = s.listen(ctx, window)
	}()
	s.failed = s.send(ctx, until, window, ended)
	if s.failed == nil {
		_ = s.conn.Close(websocket.StatusNormalClosure, "") // nothing is under way that it could lose
	}
	_ = s.conn.CloseNow()
	<-ended
	if s.failed != nil {
		s.failed = errors.Join(s.failed, unread)
	}
}

// send returns when the time is over and each message has its reply, or when the socket has ended.
func (s *socket) send(ctx context.Context, until time.Time, window chan<- struct{}, ended <-chan struct{}) error {
	place := func() error {
		select {
		case window <- struct{}{}:
			return nil
		case <-ended:
			return errors.New("it has ended")
		}
	}
	for time.Now().Before(until) {
		if err := place(); err != nil {
			return err
		}
		message := payload.Message{Stream: s.stream, Number: s.sent}.Encode(messageSize(s.sent))
		s.sent++
		if err := s.conn.Write(ctx, websocket.MessageBinary, message); err != nil {
			return err
		}
	}
	for range socketWindow { // once all places are ours, nothing is under way
		if err := place(); err != nil {
			return err
		}
	}
	return nil
}

// messageSize varies from a few bytes to more than a TCP segment.
func messageSize(number uint64) int { return int(number * 311 % 4096) }

// listen takes replies until the connection ends, and gives the place of each in the window back.
func (s *socket) listen(ctx context.Context, window <-chan struct{}) error {
	for {
		_, reply, err := s.conn.Read(ctx)
		if err != nil {
			return err
		}
		m, err := payload.Decode(reply)
		if err != nil || m.Stream != s.stream || !m.Reply {
			s.damaged++
		} else {
			s.returned.Take(m.Number)
		}
		select {
		case <-window:
		default: // a reply to nothing, which the ledger has noticed
		}
	}
}
