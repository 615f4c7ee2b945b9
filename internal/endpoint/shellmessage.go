package endpoint

import (
	"bytes"
	"encoding/json"
)

// clientMessage is a text message of a client that is more than text. Only resize is the service's own
// (spec/behaviour.md 9); the others are of execProtocol.
type clientMessage struct {
	Type       string   // start, resize, signal, eof, alive
	Cols, Rows uint16   // resize, start
	Signal     uint8    // signal
	Command    []string // start; empty: a shell
	TTY        bool     // start
}

// parseMessage reads a text message. What is no such thing is not recognised: a person may type JSON.
func parseMessage(text []byte) (m clientMessage, ok bool) {
	var raw struct {
		Type    string   `json:"type"`
		Cols    *uint16  `json:"cols"`
		Rows    *uint16  `json:"rows"`
		Signal  uint8    `json:"signal"`
		Command []string `json:"command"`
		TTY     bool     `json:"tty"`
	}
	if !bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) || json.Unmarshal(text, &raw) != nil {
		return m, false
	}
	if raw.Type == "resize" && (raw.Cols == nil || raw.Rows == nil) {
		return m, false
	}
	m = clientMessage{Type: raw.Type, Signal: raw.Signal, Command: raw.Command, TTY: raw.TTY}
	if raw.Cols != nil && raw.Rows != nil {
		m.Cols, m.Rows = *raw.Cols, *raw.Rows
	}
	switch m.Type {
	case "start", "resize", "eof", "alive":
		return m, true
	case "signal":
		return m, m.Signal > 0 && m.Signal <= 64
	}
	return m, false
}
