package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// ignored is what a .dockerignore names.
type ignored struct {
	patterns *patternmatcher.PatternMatcher
}

// readIgnored reads what the .dockerignore of a folder says, which need not exist.
func readIgnored(root string) (*ignored, error) {
	text, err := os.Open(filepath.Join(root, ownIgnore))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = os.Open(filepath.Join(root, dockerignore))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var lines []string
	if err == nil {
		defer text.Close()
		if lines, err = ignorefile.ReadAll(text); err != nil {
			return nil, fmt.Errorf("read %s: %w", dockerignore, err)
		}
	}
	patterns, err := patternmatcher.New(lines)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dockerignore, err)
	}
	return &ignored{patterns}, nil
}

func (i *ignored) matches(name string) (bool, error) { return i.patterns.MatchesOrParentMatches(name) }

// mayReturn tells whether something inside an ignored folder may be wanted after all ("!keep"): some
// exception begins as its name does, as far as it is plain text.
func (i *ignored) mayReturn(folder string) bool {
	folder += "/"
	for _, p := range i.patterns.Patterns() {
		plain := filepath.ToSlash(p.String())
		wild := strings.IndexAny(plain, `*?[\`)
		if wild >= 0 {
			plain = plain[:wild]
		}
		if p.Exclusion() && (strings.HasPrefix(plain, folder) || wild >= 0 && strings.HasPrefix(folder, plain)) {
			return true
		}
	}
	return false
}
