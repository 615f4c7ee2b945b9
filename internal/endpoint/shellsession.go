package endpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

const (
	// pingEvery is how often a client is asked whether it is there.
	pingEvery = 30 * time.Second
	// deadAfter is how long a client may give no sign of life. One that reads nothing cannot answer a ping,
	// and has to send something.
	deadAfter = 2 * time.Minute
	// farewell is how long what the guest has said last may take to reach the client.
	farewell = 3 * time.Second
	// maxMessage bounds a text message that is looked at, in bytes; a longer one is typed.
	maxMessage = 4096
)

// shellSession is one WebSocket with a shell or a command behind it.
type shellSession struct {
	conn    *websocket.Conn
	process Process
	clock   clockwork.Clock
	ext     bool // execProtocol was agreed on

	heard   atomic.Int64 // Unix nanoseconds: the last sign of life of the client
	pushing atomic.Bool  // the guest does not take the client's input, which so is not read
	writing atomic.Bool  // a write to the client is under way
	done    sync.WaitGroup
}

func (s *shellSession) hear() { s.heard.Store(s.clock.Now().UnixNano()) }

// carry moves bytes both ways until one side ends; nil: the process has exited. What it leaves behind
// ends with the process and the connection; see done.
func (s *shellSession) carry(ctx context.Context) error {
	s.hear()
	fromClient, fromGuest, silent := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	// Reads and writes do not end with ctx: the library would cut the connection without a word.
	calm := context.WithoutCancel(ctx)
	s.done.Go(func() { fromClient <- s.listen(calm) })
	s.done.Go(func() { fromGuest <- s.tell(calm) })
	watching, stop := context.WithCancel(calm)
	defer stop()
	s.done.Go(func() { silent <- s.watch(watching) })
	select {
	case err := <-fromGuest:
		return err
	case <-s.process.HungUp():
		last := s.clock.NewTimer(farewell)
		defer last.Stop()
		select {
		case err := <-fromGuest:
			return err
		case <-last.Chan():
			return s.process.Cause()
		}
	case err := <-fromClient:
		return err
	case err := <-silent:
		return err
	case <-ctx.Done():
		return errStopping
	}
}

// What stands before the bytes of a binary message to a client of execProtocol.
const (
	streamStdout byte = 1
	streamStderr byte = 2
)

// tell passes on what the guest says, no faster than the client takes it.
func (s *shellSession) tell(ctx context.Context) error {
	message := make([]byte, 1, 1+guest.ExecPiece)
	for {
		out, err := s.process.Next()
		switch {
		case err != nil:
			return err
		case out.Exited && s.ext:
			text := fmt.Appendf(nil, `{"type":"exit","code":%d}`, out.Code)
			return s.write(ctx, websocket.MessageText, text)
		case out.Exited:
			return nil
		case !s.ext:
			err = s.write(ctx, websocket.MessageBinary, out.Data)
		default:
			message[0] = streamStdout
			if out.Stderr {
				message[0] = streamStderr
			}
			err = s.write(ctx, websocket.MessageBinary, append(message[:1], out.Data...))
		}
		if err != nil {
			return err
		}
	}
}

func (s *shellSession) write(ctx context.Context, kind websocket.MessageType, data []byte) error {
	s.writing.Store(true)
	defer s.writing.Store(false)
	if err := s.conn.Write(ctx, kind, data); err != nil {
		return fmt.Errorf("%w: %w", errClientLeft, err)
	}
	return nil
}

// listen does what the client says, until it leaves or errs. Bytes go on as they come. What the process
// does not take, because it has ended, is dropped: tell says how it ended, once the client has had all.
func (s *shellSession) listen(ctx context.Context) error {
	buffer := make([]byte, guest.ExecPiece)
	for {
		kind, message, err := s.conn.Reader(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", errClientLeft, err)
		}
		s.hear()
		if kind == websocket.MessageText {
			if message, err = s.obey(message); err != nil {
				return err
			}
		}
		if err := s.push(message, buffer); err != nil {
			return err
		}
	}
}

// push types what the client sent.
func (s *shellSession) push(from io.Reader, buffer []byte) error {
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			s.hear()
			s.take(buffer[:n])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errClientLeft, err)
		}
	}
}

// take gives the process a piece of input. It waits while the process does not take it.
func (s *shellSession) take(input []byte) {
	s.pushing.Store(true)
	defer s.pushing.Store(false)
	_ = s.process.Input(input) // see listen
	s.hear()                   // it could not be heard while nobody listened
}

// obey carries out a text message, or returns what of it is to be typed: the service types what it does
// not recognise (spec/behaviour.md 9). Clients of execProtocol do not say anything else.
func (s *shellSession) obey(message io.Reader) (rest io.Reader, err error) {
	text, err := io.ReadAll(io.LimitReader(message, maxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errClientLeft, err)
	}
	if m, ok := parseMessage(text); ok && len(text) <= maxMessage && s.carryOut(m) {
		return bytes.NewReader(nil), nil
	}
	if s.ext {
		return nil, errClientErred
	}
	return io.MultiReader(bytes.NewReader(text), message), nil
}

// carryOut tells whether a message means something to this session. For failures see listen.
func (s *shellSession) carryOut(m clientMessage) bool {
	switch {
	case m.Type == "resize":
		_ = s.process.Resize(m.Cols, m.Rows)
	case m.Type == "signal" && s.ext:
		_ = s.process.Signal(m.Signal)
	case m.Type == "eof" && s.ext:
		_ = s.process.EndInput()
	case m.Type == "alive" && s.ext:
	default:
		return false
	}
	return true
}

// watch asks the client now and then whether it is there, and returns when it is not.
func (s *shellSession) watch(ctx context.Context) error {
	ticker := s.clock.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.Chan():
		}
		if !s.pushing.Load() && s.clock.Now().UnixNano()-s.heard.Load() >= int64(deadAfter) {
			return errClientSilent
		}
		if !s.writing.Load() { // else it is known that the client does not take anything
			s.done.Go(func() { s.ping(ctx) })
		}
	}
}

// ping asks once. An answer is heard by whoever reads; without a connection there is nothing to wait for,
// and reads and writes fail.
func (s *shellSession) ping(ctx context.Context) {
	ctx, cancel := clockwork.WithTimeout(ctx, s.clock, pingEvery)
	defer cancel()
	if err := s.conn.Ping(ctx); err != nil && ctx.Err() == nil {
		_ = s.process.Close() // a push would wait for the guest for ever
	}
}
