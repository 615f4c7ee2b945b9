package main

import (
	"bytes"
	"io"
)

// harmless is what QEMU says of every device state it is handed without the description that only its
// tools for analysis read (migration/savevm.c); the VM goes on.
const harmless = "qemu-system-x86_64: Expected vmdescription section, but got 0\n"

// withoutLine passes on all but the lines that are the given one.
type withoutLine struct {
	to   io.Writer
	line string
	held []byte // the beginning of a line that may become that one
	in   bool   // in the middle of another line
}

func (w *withoutLine) Write(p []byte) (int, error) {
	for part := range bytes.Lines(p) {
		begins := !w.in
		w.in = false
		if begins {
			part = append(w.held, part...)
			w.held = nil
			if string(part) == w.line {
				continue
			}
			if bytes.HasPrefix([]byte(w.line), part) {
				w.held = bytes.Clone(part)
				continue
			}
		}
		w.in = part[len(part)-1] != '\n'
		if _, err := w.to.Write(part); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// flush writes what was held of a line that never became the one.
func (w *withoutLine) flush() error {
	_, err := w.to.Write(w.held)
	w.held = nil
	return err
}
