package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// pseudo is a pseudo terminal.
type pseudo struct {
	file *os.File // what a program writes to

	mu    sync.Mutex // guards shown
	shown strings.Builder
}

func (p *pseudo) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.Write(text)
}

func (p *pseudo) shows(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.shown.String(), text)
}

// openPseudo returns a terminal, and a function that closes it and returns all that was shown.
func openPseudo(t *testing.T) (screen *pseudo, all func() string) {
	t.Helper()
	screen = &pseudo{}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	screen.file, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(screen.file.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(screen, master) }) // ends with EIO when the screen is closed
	return screen, func() string {
		require.NoError(t, screen.file.Close())
		reading.Wait()
		require.NoError(t, master.Close())
		return screen.shown.String()
	}
}

func TestATerminalHasColoursAMovingLineAndNoEscapesOfStrangers(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	screen, all := openPseudo(t)
	s := New(screen.file, screen.file)
	require.True(t, s.Interactive())
	s.Printf("%s\n", s.State("RUNNING"))
	w, flush := s.Stranger()
	fmt.Fprint(w, "stranger \x1b[5m\n")
	require.NoError(t, flush())

	p := s.Progress()
	p.Say("Building %s", "web")
	fmt.Fprint(p, "a step \x1b[2J\n")
	require.Eventually(t, func() bool { return screen.shows("Building web") }, 10*time.Second, time.Millisecond)
	p.Close()
	out := all()
	require.Contains(t, out, "\x1b[32mRUNNING\x1b[0m")
	require.Contains(t, out, `stranger \x1b[5m`)
	require.Contains(t, out, `a step \x1b[2J`)
	require.NotContains(t, out, "\x1b[2J")
	require.NotContains(t, out, "\x1b[5m")
}

func TestNoColorIsRespected(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	t.Setenv("TERM", "xterm")
	screen, all := openPseudo(t)
	s := New(screen.file, screen.file)
	s.Printf("%s\n", s.State("RUNNING"))
	require.Equal(t, "RUNNING\r\n", all())
}
