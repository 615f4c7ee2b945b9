package logship

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const (
	// maxBuildLine is where lines of a build's log are cut, in bytes: as those of an app.
	maxBuildLine = 16 << 10
	// maxBuildPut bounds the lines that are put at once, in bytes, of which each line takes lineCost beyond its text: a
	// build may write nothing but ends of lines.
	maxBuildPut = 1 << 20
	lineCost    = 64
	// maxParts bounds the file that tells where parts of a build's log begin, in lines.
	maxParts = 16
)

// buildPart is a part of a build's log, from one byte to before another.
type buildPart struct {
	part     loggroup.Part
	from, to int64
}

// unsentBuilds are the builds of which a folder says that their logs were not sent on.
func unsentBuilds(dir string) (ids []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, entry := range entries {
		ids = append(ids, entry.Name())
	}
	return ids, err
}

// sendBuild sends the log of a build that has ended, in one go and with one time, as the service does
// (spec/behaviour.md 15).
func (s *Shipper) sendBuild(ctx context.Context, src *source) error {
	unsent := filepath.Join(s.cfg.UnsentBuilds, src.id)
	err := s.sendParts(ctx, src, unsent)
	if err == nil || errors.Is(err, store.ErrNotFound) {
		if gone := os.Remove(unsent); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			return gone
		}
	}
	if errors.Is(err, errNotEnded) {
		return nil
	}
	return err
}

// errNotEnded says that somebody will tell when the build has ended.
var errNotEnded = errors.New("the build has not ended")

func (s *Shipper) sendParts(ctx context.Context, src *source, unsent string) error {
	b, err := s.cfg.Records.Build(ctx, src.id)
	if err != nil {
		return err
	}
	if b.EndedAt.IsZero() {
		return errNotEnded
	}
	i, err := s.cfg.Records.Image(ctx, b.ImageID)
	if err != nil {
		return err
	}
	v, err := s.cfg.Records.Version(ctx, b.ImageID, b.Version)
	if err != nil {
		return err
	}
	log, err := os.Open(s.cfg.BuildLog(src.id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer log.Close()
	parts, err := readParts(unsent, log)
	if err != nil {
		return err
	}
	n := 0
	for _, p := range parts {
		to := loggroup.OfBuild(i, v, b, p.part)
		err := linesAt(b.EndedAt, io.NewSectionReader(log, p.from, p.to-p.from), func(lines []logfile.Line) error {
			if n++; n <= src.puts {
				return nil // before a failure: an ended build's log does not change
			}
			err := s.put(ctx, to, lines)
			if err == nil {
				src.puts = n
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readParts tells where which part of a log lies; of what cannot be read all is the Dockerfile's. Without the file that
// says so nothing is to be sent.
func readParts(unsent string, log *os.File) (parts []buildPart, err error) {
	info, err := log.Stat()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(unsent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		var p buildPart
		if n, _ := fmt.Sscanf(line, "%s %d\n", &p.part, &p.from); n != 2 || len(parts) == maxParts {
			break
		}
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		parts = []buildPart{{part: loggroup.BuildPart}}
	}
	end := info.Size()
	for i := len(parts) - 1; i >= 0; i-- {
		parts[i].from = min(max(parts[i].from, 0), end)
		parts[i].to = end
		end = parts[i].from
	}
	return parts, nil
}

// linesAt has text, whose lines have one time, put in pieces.
func linesAt(at time.Time, text io.Reader, put func([]logfile.Line) error) error {
	var lines []logfile.Line
	size := 0
	scanner := bufio.NewScanner(text)
	scanner.Buffer(make([]byte, 0, maxBuildLine), maxBuildLine+1)
	scanner.Split(cutLines)
	for scanner.Scan() {
		lines = append(lines, logfile.Line{At: at, Stream: buildStream, Text: bytes.Clone(scanner.Bytes())})
		if size += len(scanner.Bytes()) + lineCost; size >= maxBuildPut {
			if err := put(lines); err != nil {
				return err
			}
			lines, size = nil, 0
		}
	}
	return errors.Join(scanner.Err(), put(lines))
}

// buildStream is what the lines of builds have for a stream.
const buildStream = "build"

// cutLines is bufio.ScanLines, but cuts lines that are too long.
func cutLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	advance, token, err = bufio.ScanLines(data, atEOF)
	if advance == 0 && err == nil && len(data) >= maxBuildLine {
		return maxBuildLine, data[:maxBuildLine], nil
	}
	return advance, token, err
}
