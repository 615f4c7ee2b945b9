package extension

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/logfile"
)

const (
	// maxStreams is how many log requests an account may have under way.
	maxStreams = 32
	// stallLimit is how long a client may take nothing.
	stallLimit = 30 * time.Second
	// pieceSize is what is read and sent at once, in bytes.
	pieceSize = 32 << 10
)

// streams counts log requests under way.
type streams struct {
	mu    sync.Mutex     // guards count
	count map[string]int // by account
}

func newStreams() *streams { return &streams{count: map[string]int{}} }

// enter begins a log request of an account, or refuses it.
func (s *streams) enter(account string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[account] >= maxStreams {
		return nil, awsapi.Throttling("Rate exceeded: at most %d log requests at once.", maxStreams)
	}
	s.count[account]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.count[account]--; s.count[account] == 0 {
			delete(s.count, account)
		}
	}, nil
}

// response sends a log as it comes.
type response struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// newResponse begins an answer. The connection is not used again: its deadlines have been changed.
func newResponse(w http.ResponseWriter) *response {
	r := &response{w, http.NewResponseController(w)}
	w.Header().Set("content-type", "text/plain")
	w.Header().Set("x-content-type-options", "nosniff")
	w.Header().Set("connection", "close")
	_ = r.control.SetReadDeadline(time.Time{}) // the server's is for requests that end soon
	r.extend()
	w.WriteHeader(http.StatusOK)
	_ = r.control.Flush()
	return r
}

// extend gives the client time to take more. It is the socket's time, whatever the clock says.
func (r *response) extend() { _ = r.control.SetWriteDeadline(time.Now().Add(stallLimit)) }

// Write sends at once.
func (r *response) Write(p []byte) (int, error) {
	r.extend()
	n, err := r.w.Write(p)
	if err == nil {
		err = r.control.Flush()
	}
	return n, err
}

// body is the text of a log, from where the request wants it to begin.
type body struct {
	text *logfile.Text // nil for a log that is text as it is
	from io.Reader
	skip int // lines to leave out
}

// newBody reads a file to its present end, or on and on for a request that follows.
func newBody(file *logfile.Reader, app bool, in LogsInput) (*body, error) {
	b := &body{}
	if in.Tail != nil {
		lines, err := logfile.CountLines(decode(file.Snapshot(), app))
		if err != nil {
			return nil, err
		}
		b.skip = max(0, lines-*in.Tail)
	}
	b.from = file.Snapshot()
	if in.Follow {
		b.from = file
	}
	if app {
		b.text = logfile.NewText(b.from)
		b.from = b.text
	}
	return b, nil
}

func decode(raw io.Reader, app bool) io.Reader {
	if app {
		return logfile.NewText(raw)
	}
	return raw
}

// copy sends what there is.
func (b *body) copy(to io.Writer) error {
	buffer := make([]byte, pieceSize)
	for {
		n, err := b.from.Read(buffer)
		if piece := b.cut(buffer[:n]); len(piece) > 0 {
			if _, err := to.Write(piece); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// cut leaves out the lines to skip.
func (b *body) cut(piece []byte) []byte {
	for b.skip > 0 {
		end := bytes.IndexByte(piece, '\n')
		if end < 0 {
			return nil
		}
		piece = piece[end+1:]
		b.skip--
	}
	return piece
}

// end sends what there is and what has no end of line yet.
func (b *body) end(to io.Writer) error {
	if err := b.copy(to); err != nil || b.text == nil {
		return err
	}
	if rest := b.cut(b.text.Rest(nil)); len(rest) > 0 {
		_, err := to.Write(rest)
		return err
	}
	return nil
}
