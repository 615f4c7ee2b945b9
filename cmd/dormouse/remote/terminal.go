package remote

import (
	"fmt"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal is the terminal of a person.
type Terminal struct{ file *os.File }

// TerminalOf is the terminal that a file is; nil if it is none.
func TerminalOf(file *os.File) *Terminal {
	if !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return &Terminal{file}
}

// size in characters; nothing where it is not known.
func (t *Terminal) size() (cols, rows uint16) {
	width, height, err := term.GetSize(int(t.file.Fd()))
	if err != nil || width < 0 || height < 0 || width > 1<<16-1 || height > 1<<16-1 {
		return 0, 0
	}
	return uint16(width), uint16(height)
}

// raw passes every key on, Ctrl-C too, until restore is called.
func (t *Terminal) raw() (restore func(), err error) {
	before, err := term.MakeRaw(int(t.file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("take over the terminal: %w", err)
	}
	return sync.OnceFunc(func() { _ = term.Restore(int(t.file.Fd()), before) }), nil
}

// watch tells about changes of the size until stop is called.
func (t *Terminal) watch(changed func(cols, rows uint16)) (stop func()) {
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, unix.SIGWINCH)
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-signals:
				changed(t.size())
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(done)
		watching.Wait()
	}
}
