package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/microvm"
)

const (
	// execProtocol is the subprotocol of Dormouse's own clients, who say what to run and are told how it
	// ended (docs/extension-api.md). Whoever does not offer it gets the service's shell.
	execProtocol = "dormouse.exec.v1"
	// startTime is how long a client of execProtocol may take to say what it wants.
	startTime = 10 * time.Second
	// maxStart bounds what it says, in bytes.
	maxStart = 4 * guest.MaxExecArgBytes
	// maxCloseReason is what a close frame has room for, in bytes (RFC 6455 5.5).
	maxCloseReason = 123
)

var (
	errClientLeft   = errors.New("the client has left")
	errClientSilent = errors.New("the client gives no sign of life")
	errClientErred  = errors.New("the client does not keep to the protocol")
	errStopping     = errors.New("Dormouse is stopping") //nolint:staticcheck // a name
)

// admitShell judges a request with a genuine shell token, which opens no port. A shell is a WebSocket;
// anything else gets 502 (spec/behaviour.md 9).
func (ex *exchange) admitShell(r *http.Request) *answer {
	switch {
	case !isWebSocket(r):
		return &shellNeedsWebSocket
	case !ex.vm.AcceptsShell():
		return &shellDenied
	case !isHandshake(r):
		return &badRequest
	}
	ex.shell = true
	return nil
}

// isHandshake tells whether a request for a WebSocket is complete (RFC 6455 4.2.1): a VM is not woken for
// one that the library refuses.
func isHandshake(r *http.Request) bool {
	keys := r.Header["Sec-Websocket-Key"]
	upgrades := slices.ContainsFunc(strings.Split(strings.Join(r.Header["Connection"], ","), ","), func(token string) bool {
		return strings.EqualFold(strings.TrimSpace(token), "upgrade")
	})
	return r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && upgrades && r.Header.Get("Sec-Websocket-Version") == "13" &&
		len(keys) == 1 && len(keys[0]) == 24 // 16 bytes as base64
}

// serveShell opens the WebSocket, starts the shell and carries bytes until one side ends. What goes wrong
// from here on is told in the close frame, which browsers show, unlike answers to a handshake.
func (h *handler) serveShell(w http.ResponseWriter, r *http.Request, ex *exchange) {
	h.shells.Add(1)
	defer h.shells.Done()
	s := &shellSession{clock: h.cfg.Clock, ext: slices.Contains(strings.Split(ex.offer.app, ", "), execProtocol)}
	w.Header()[requestIDHeader] = []string{ex.requestID}
	options := websocket.AcceptOptions{
		Subprotocols:       []string{marker},
		InsecureSkipVerify: true, // the token is what counts, and pages of all origins may have one
		OnPongReceived:     func(context.Context, []byte) { s.hear() },
	}
	if s.ext {
		options.Subprotocols = []string{execProtocol}
	}
	conn, err := websocket.Accept(w, r, &options)
	if err != nil {
		h.cfg.Logger.Debug("shell not opened", "request", ex.requestID, "microvm", ex.vm.ID(), "error", err)
		return
	}
	ex.answered(http.StatusSwitchingProtocols, "")
	conn.SetReadLimit(-1) // nothing is kept, whatever a message's size
	s.conn = conn
	ex.lease.Answered(microvm.Stream)
	err = s.serve(r.Context(), ex)
	code, reason := closing(err)
	h.cfg.Logger.Debug("shell closed", "request", ex.requestID, "microvm", ex.vm.ID(), "reason", reason, "cause", err)
	_ = conn.Close(code, reason) // within ten seconds, whatever the client does
	s.done.Wait()
}

// serve returns nil when the shell has exited. ctx ends with the server.
func (s *shellSession) serve(ctx context.Context, ex *exchange) error {
	request := guest.ExecRequest{TTY: true}
	if s.ext {
		var err error
		if request, err = s.readStart(ctx); err != nil {
			return err
		}
	}
	process, err := ex.startProcess(ctx, request)
	if err != nil {
		return err
	}
	defer process.Close()
	s.process = process
	hello, err := json.Marshal(map[string]string{"type": "session_init", "session_id": uuid.NewString()})
	if err != nil {
		return fmt.Errorf("encode session_init: %w", err)
	}
	if err := s.write(context.WithoutCancel(ctx), websocket.MessageText, hello); err != nil {
		return err
	}
	return s.carry(ctx)
}

// readStart reads what a client of execProtocol wants.
func (s *shellSession) readStart(ctx context.Context) (r guest.ExecRequest, err error) {
	type outcome struct {
		message clientMessage
		err     error
	}
	read := make(chan outcome, 1)
	go func() {
		kind, from, err := s.conn.Reader(context.WithoutCancel(ctx))
		if err != nil {
			read <- outcome{err: errClientLeft}
			return
		}
		text, err := io.ReadAll(io.LimitReader(from, maxStart+1))
		m, ok := parseMessage(text)
		if err != nil || kind != websocket.MessageText || len(text) > maxStart || !ok || m.Type != "start" {
			read <- outcome{err: errClientErred}
			return
		}
		read <- outcome{message: m}
	}()
	late := s.clock.NewTimer(startTime)
	defer late.Stop()
	select {
	case got := <-read:
		m := got.message
		return guest.ExecRequest{Args: m.Command, TTY: m.TTY, Cols: m.Cols, Rows: m.Rows}, got.err
	case <-late.Chan():
		return r, errClientSilent
	case <-ctx.Done():
		return r, errStopping
	}
}

// startProcess starts a process, on a new lease if the VM was suspended just before.
func (ex *exchange) startProcess(ctx context.Context, r guest.ExecRequest) (Process, error) {
	for sends := 1; ; sends++ {
		process, err := ex.lease.Exec(ctx, r)
		if !errors.Is(err, ErrStale) || sends == maxSends {
			return process, err
		}
		if err := ex.renewLease(ctx); err != nil {
			return nil, err
		}
		ex.lease.Answered(microvm.Stream)
	}
}

// closing is how a shell's end is told.
func closing(err error) (websocket.StatusCode, string) {
	var agent guest.AgentError
	switch {
	case err == nil:
		return websocket.StatusNormalClosure, "shell exited"
	case errors.Is(err, ErrAsleep):
		return websocket.StatusGoingAway, "microVM suspended"
	case errors.Is(err, ErrGone):
		return websocket.StatusGoingAway, "microVM terminated"
	case errors.Is(err, errStopping), errors.Is(err, context.Canceled):
		return websocket.StatusGoingAway, errStopping.Error()
	case errors.Is(err, errClientLeft):
		return websocket.StatusNormalClosure, ""
	case errors.Is(err, errClientSilent), errors.Is(err, errClientErred):
		return websocket.StatusPolicyViolation, err.Error()
	case errors.Is(err, ErrProcesses):
		return websocket.StatusTryAgainLater, ErrProcesses.Error()
	case errors.As(err, &agent):
		return websocket.StatusInternalError, cutReason("not started: " + string(agent))
	case errors.Is(err, ErrSuspended), errors.Is(err, ErrWakeFailed), errors.Is(err, ErrBusy), errors.Is(err, ErrStale), errors.Is(err, errParkedTooLong):
		return websocket.StatusTryAgainLater, answerFor(err).code
	default:
		return websocket.StatusInternalError, "the connection to the microVM is lost"
	}
}

// cutReason makes text of a guest fit into a close frame.
func cutReason(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return '?'
		}
		return r
	}, text)
	for len(text) > maxCloseReason {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}

// waitForShells returns when all shells are closed, or when ctx ends.
func (h *handler) waitForShells(ctx context.Context) {
	closed := make(chan struct{})
	go func() {
		h.shells.Wait()
		close(closed)
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
}
