package logship

import (
	"errors"
	"fmt"
	"os"
)

// placeName is the file beside an app's log that says how much of it was sent.
const placeName = "app.sent"

// placeForm is of one length, so that writing it replaces what was there in one step.
const placeForm = "%020d\n"

// place is how much of a log was sent, in bytes, on disk. It need not survive a power cut: what was sent since then is sent again.
type place struct {
	file *os.File
	at   int64
}

func openPlace(path string) (*place, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the place of a log: %w", err)
	}
	p := &place{file: file}
	if n, _ := fmt.Fscanf(file, placeForm, &p.at); n == 1 && p.at >= 0 {
		return p, nil
	}
	p.at = 0
	if err := p.write(0); err != nil { // a full disk is to be found before anything is sent, or it is sent again and again
		return nil, errors.Join(err, file.Close())
	}
	return p, nil
}

func (p *place) move(to int64) error {
	if to == p.at {
		return nil
	}
	if err := p.write(to); err != nil {
		return err
	}
	p.at = to
	return nil
}

func (p *place) write(at int64) error {
	if _, err := p.file.WriteAt(fmt.Appendf(nil, placeForm, at), 0); err != nil {
		return fmt.Errorf("remember the place of a log: %w", err)
	}
	return nil
}

func (p *place) close() error { return p.file.Close() }
