package main

import (
	"bufio"
	"io"
	"strings"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
)

// maxAppLine bounds a line of an app's log, in bytes; the daemon cuts lines at 16 KiB.
const maxAppLine = 64 << 10

// copyAppLog prints what an app wrote as the app would have: standard output to Out, the rest to Err.
// Each line of the log is "TIME STREAM TEXT"; one that is not is printed as it is.
func copyAppLog(screen *terminal.Screen, log io.Reader) error {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxAppLine)
	out, flush := screen.Stranger()
	for lines.Scan() {
		text, to := lines.Text(), out
		_, rest, timed := strings.Cut(text, " ")
		if stream, said, ok := strings.Cut(rest, " "); timed && ok {
			switch stream {
			case "stdout":
				text = said
			case "stderr":
				text, to = said, screen.Err
			case eventStream:
				text = "[event] " + said
			case "agent", "dormouse":
				text, to = "["+stream+"] "+said, screen.Err
			}
		}
		if to != out {
			text = terminal.Safe(text)
		}
		if _, err := io.WriteString(to, text+"\n"); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return flush()
}
