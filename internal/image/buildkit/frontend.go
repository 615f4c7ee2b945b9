package buildkit

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const (
	dockerfile = "Dockerfile"
	// stockFrontend is the name of the frontend that buildkitd also has built in.
	stockFrontend = "docker/dockerfile"
	// maxDockerfile bounds what is read of a Dockerfile to find its syntax line, in bytes.
	maxDockerfile = 1 << 20
)

// useBuiltIn decides whether the frontend built into buildkitd runs the Dockerfile, and gives a
// note for the log when that is not what the Dockerfile asks for.
func useBuiltIn(b Build) (builtIn bool, note string, err error) {
	root, err := os.OpenRoot(b.Context)
	if err != nil {
		return false, "", fmt.Errorf("open build context: %w", err)
	}
	defer root.Close()
	file, err := root.Open(dockerfile)
	if err != nil {
		return false, "", fmt.Errorf("open Dockerfile: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxDockerfile))
	if err != nil {
		return false, "", fmt.Errorf("read Dockerfile: %w", err)
	}
	syntax, _, _, found := parser.DetectSyntax(text)
	switch {
	case !found || isStock(syntax):
		return true, "", nil
	case !b.Online:
		return true, fmt.Sprintf("No registry is reachable: the built-in Dockerfile frontend is used instead of %q.", syntax), nil
	default:
		return false, "", nil
	}
}

// isStock tells whether a frontend is the ordinary Dockerfile frontend, whatever its version:
// the built-in one is as new, and needs no pull.
func isStock(syntax string) bool {
	named, err := reference.ParseNormalizedNamed(syntax)
	if err != nil || reference.FamiliarName(named) != stockFrontend {
		return false
	}
	tagged, ok := reference.TagNameOnly(named).(reference.Tagged)
	return ok && !strings.Contains(tagged.Tag(), "labs") // experiments, which the built-in one has not
}
