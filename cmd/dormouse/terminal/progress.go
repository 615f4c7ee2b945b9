package terminal

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Progress tells on Err what goes on while a person waits: on a terminal a line that moves, with
// log lines above it; elsewhere plain lines. It is an io.Writer for the log lines of strangers.
type Progress struct {
	screen *Screen
	began  time.Time
	pool   *mpb.Progress // nil where Err is no terminal
	bar    *mpb.Bar

	mu    sync.Mutex // guards all below
	title string
	since time.Time
	total int64 // bytes; 0 where the end is not known
	done  int64
	line  []byte // of the log, not ended yet
}

// Progress begins.
func (s *Screen) Progress() *Progress {
	now := time.Now()
	p := &Progress{screen: s, began: now, since: now}
	if !s.errTerminal {
		return p
	}
	p.pool = mpb.New(mpb.WithOutput(s.Err), mpb.WithAutoRefresh(), mpb.WithRefreshRate(100*time.Millisecond))
	p.bar = p.pool.New(1, mpb.SpinnerStyle("⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏").PositionLeft(),
		mpb.BarRemoveOnComplete(), mpb.BarWidth(1), mpb.AppendDecorators(decor.Any(p.state)))
	return p
}

// state words the moving line.
func (p *Progress) state(decor.Statistics) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.total > 0 {
		return fmt.Sprintf(" %s  %s of %s", p.title, Bytes(p.done), Bytes(p.total))
	}
	return fmt.Sprintf(" %s  %s", p.title, Span(time.Since(p.since)))
}

// Say tells what begins now.
func (p *Progress) Say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.title, p.since, p.total, p.done = fmt.Sprintf(format, args...), time.Now(), 0, 0
	if p.pool == nil {
		fmt.Fprintln(p.screen.Err, p.title)
	}
}

// Counting returns a reader that tells how much of total bytes has been read through it.
func (p *Progress) Counting(r io.ReadSeeker, total int64) io.ReadSeeker {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = total
	return &counting{r, p}
}

type counting struct {
	io.ReadSeeker
	p *Progress
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.ReadSeeker.Read(b)
	c.p.mu.Lock()
	c.p.done += int64(n)
	c.p.mu.Unlock()
	return n, err
}

func (c *counting) Seek(offset int64, whence int) (int64, error) {
	at, err := c.ReadSeeker.Seek(offset, whence)
	c.p.mu.Lock()
	c.p.done = at
	c.p.mu.Unlock()
	return at, err
}

// Write shows whole lines of a log that strangers write.
func (p *Progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.line = append(p.line, b...)
	end := bytes.LastIndexByte(p.line, '\n') + 1
	lines := string(p.line[:end])
	p.line = append([]byte(nil), p.line[end:]...)
	p.mu.Unlock()
	if end == 0 {
		return len(b), nil
	}
	if p.pool == nil {
		_, err := io.WriteString(p.screen.Err, lines)
		return len(b), err
	}
	_, err := io.WriteString(p.pool, Safe(lines))
	return len(b), err
}

// Elapsed is the time since the progress began.
func (p *Progress) Elapsed() time.Duration { return time.Since(p.began) }

// Close takes the moving line away, and ends a line of the log that has not ended. It may be called more than once.
func (p *Progress) Close() {
	p.mu.Lock()
	unfinished := len(p.line) > 0
	p.mu.Unlock()
	if unfinished {
		_, _ = p.Write([]byte("\n")) // nobody is left to tell
	}
	if p.pool == nil {
		return
	}
	p.bar.Abort(true)
	p.pool.Wait()
}
