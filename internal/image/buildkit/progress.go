package buildkit

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
)

const (
	// maxProgress bounds what is shown of one build, in bytes. The display keeps names in
	// memory, and buildkitd's own limit (2 MiB per step) is only as good as the builder.
	maxProgress = 16 << 20
	// updateCost is what a vertex or a status costs at least, in bytes.
	updateCost = 256
)

// show renders status updates as plain text until the channel closes. It always reads the
// channel to its end, because Solve waits for that.
func show(updates <-chan *client.SolveStatus, log io.Writer, exporting func()) error {
	log = &lockedWriter{to: log} // the display writes from this goroutine, bound from another
	display, err := progressui.NewDisplay(log, progressui.PlainMode)
	if err != nil {
		for range updates {
		}
		return err
	}
	bounded := make(chan *client.SolveStatus)
	go bound(updates, bounded, log, exporting)
	err = guard(func() error {
		_, err := display.UpdateFrom(context.Background(), bounded)
		return err
	})
	for range bounded { // what a display that failed has left
	}
	return err
}

type lockedWriter struct {
	mu sync.Mutex // held while writing
	to io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

// bound passes updates on up to a limit, and notices when the export begins.
func bound(updates <-chan *client.SolveStatus, bounded chan<- *client.SolveStatus, log io.Writer, exporting func()) {
	defer close(bounded)
	left, begun := maxProgress, false
	for update := range updates {
		if !begun && exportBegins(update) {
			begun = true
			exporting()
		}
		if left < 0 {
			continue
		}
		if left -= size(update); left < 0 {
			fmt.Fprintf(log, "[progress is no longer shown: more than %d MiB]\n", maxProgress>>20)
			continue
		}
		bounded <- update
	}
}

// guard turns a panic into an error: BuildKit's display code trusts the daemon that it shows,
// and here a stranger's code may have taken that daemon over.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("unexpected data from buildkitd: %v", r)
		}
	}()
	return f()
}

// exportBegins looks for the exporter's step by the name BuildKit gives it (exporter/oci).
func exportBegins(update *client.SolveStatus) bool {
	for _, v := range update.Vertexes {
		if v.Started != nil && strings.HasPrefix(v.Name, "exporting to ") {
			return true
		}
	}
	return false
}

func size(update *client.SolveStatus) int {
	total := 0
	for _, v := range update.Vertexes {
		total += updateCost + len(v.Name) + len(v.Error)
	}
	for _, s := range update.Statuses {
		total += updateCost + len(s.ID) + len(s.Name)
	}
	for _, l := range update.Logs {
		total += len(l.Data)
	}
	for _, w := range update.Warnings {
		total += updateCost + len(w.Short) + len(w.URL)
	}
	return total
}
