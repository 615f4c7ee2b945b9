package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// serveCalls answers the frames of OpCall in turn.
func (s *server) serveCalls(conn io.ReadWriter) {
	for {
		var call guest.Call
		if err := guest.ReadJSON(conn, &call); err != nil {
			return
		}
		if err := guest.WriteJSON(conn, s.do(&call)); err != nil {
			return
		}
	}
}

func (s *server) do(call *guest.Call) (reply guest.CallReply) {
	var err error
	switch {
	case call.Boot != nil && call.Quiesce == nil:
		err = s.boot(call.Boot)
	case call.Quiesce != nil && call.Boot == nil:
		err = s.quiesce()
	default:
		err = errors.New("exactly one request must be set")
	}
	if err != nil {
		reply.Error = err.Error()
	}
	return reply
}

// boot names the machine and starts the app.
func (s *server) boot(r *guest.BootRequest) error {
	if len(r.Secret) != guest.SecretSize {
		return fmt.Errorf("the secret must have %d bytes", guest.SecretSize)
	}
	if err := setClock(r.UnixNanos); err != nil {
		return err
	}
	if r.Hostname != "" {
		if err := s.identity.setHostname(r.Hostname); err != nil {
			return fmt.Errorf("set the host name: %w", err)
		}
	}
	if err := s.app.start(r, s.identity); err != nil {
		return err
	}
	s.rotate([guest.SecretSize]byte(r.Secret))
	return nil
}

// serveEvents streams the journal until the host hangs up.
func serveEvents(conn io.ReadWriter, j *journal) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		var nothing [1]byte
		_, _ = conn.Read(nothing[:]) // the host never sends anything here
	}()
	reader := journalReader{journal: j}
	for {
		event, changed := reader.next()
		if event != nil {
			if guest.WriteJSON(conn, event) != nil {
				return
			}
			continue
		}
		select {
		case <-changed:
		case <-gone:
			return
		}
	}
}
