package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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

// mayReturn tells whether something inside an ignored folder may be wanted after all ("!keep").
func (i *ignored) mayReturn() bool { return i.patterns.Exclusions() }
