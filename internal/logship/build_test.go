package logship

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestABuildIsSentInPartsWhenItHasEnded(t *testing.T) {
	r := newRig(t)
	unsent := filepath.Join(r.dir, "unsent", "b")
	require.NoError(t, os.Mkdir(filepath.Dir(unsent), 0o700))
	long := strings.Repeat("x", maxBuildLine+5)
	text := "step\n" + long + "\nboot\nok\n"
	boot := strings.Index(text, "boot")
	require.NoError(t, os.WriteFile(unsent, fmt.Appendf(nil, "build 0\nsnapshot %d\nvalidate %d\n", boot, boot+5), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "b.log"), []byte(text), 0o600))
	r.build = store.Build{ID: "b", CreatedAt: time.Unix(0, 0), ImageID: "i", Version: "1.0"}
	require.NoError(t, r.recall())
	r.round()
	require.Empty(t, r.sink.lines, "it goes on")
	r.build.EndedAt = r.clock.Now()
	r.BuildEnded("b")
	r.round()
	require.Equal(t, []string{"step", long[:maxBuildLine], "xxxxx", "boot", "ok"}, r.sink.lines)
	require.Equal(t, []string{"1970/01/01[1.0]build-b", "1970/01/01[1.0]snapshot-b", "1970/01/01[1.0]validate-b"},
		[]string{r.sink.to[0].Stream, r.sink.to[1].Stream, r.sink.to[2].Stream})
	require.NoFileExists(t, unsent)
	r.restart()
	require.NoError(t, r.recall())
	require.Zero(t, r.Waiting())
}

// ended makes a build that has ended and wrote a text.
func (r *rig) ended(text string) {
	r.t.Helper()
	unsent := filepath.Join(r.dir, "unsent")
	require.NoError(r.t, os.Mkdir(unsent, 0o700))
	require.NoError(r.t, os.WriteFile(filepath.Join(unsent, "b"), []byte("build 0\n"), 0o600))
	require.NoError(r.t, os.WriteFile(filepath.Join(r.dir, "b.log"), []byte(text), 0o600))
	r.build = store.Build{ID: "b", CreatedAt: time.Unix(0, 0), EndedAt: r.clock.Now(), ImageID: "i", Version: "1.0"}
	r.BuildEnded("b")
}

func TestAFailureRepeatsNothingOfABuildThatWasTaken(t *testing.T) {
	r := newRig(t)
	const lines = 100_000
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	r.ended(text.String())
	r.sink.err, r.sink.room = errors.New("away"), lines/2
	r.round()
	require.NotEmpty(t, r.sink.lines)
	require.Less(t, len(r.sink.lines), lines)
	r.sink.err = nil
	for range 3 {
		r.round()
	}
	require.Equal(t, strings.TrimSuffix(text.String(), "\n"), strings.Join(r.sink.lines, "\n"))
	require.Zero(t, r.Waiting())
}

func TestABuildThatWritesOnlyEndsOfLinesIsSentInBoundedPieces(t *testing.T) {
	r := newRig(t)
	r.ended(strings.Repeat("\n", 1<<20))
	r.round()
	require.Len(t, r.sink.lines, 1<<20)
	require.LessOrEqual(t, r.sink.most, maxBuildPut/lineCost)
}

func TestABuildThatIsNotToBeSentIsNot(t *testing.T) {
	r := newRig(t)
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "b.log"), []byte("==> note\n"), 0o600))
	r.build = store.Build{ID: "b", EndedAt: r.clock.Now()}
	r.BuildEnded("b")
	r.round()
	require.Empty(t, r.sink.lines)
	require.Zero(t, r.Waiting())
}
