package internal

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```[ \t]*$")
	inCode  = regexp.MustCompile("`[^`\n]*`")
	heading = regexp.MustCompile(`(?m)^#+[ \t]+(.+?)[ \t]*$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N}\-_ ]`)
)

// documents are the texts that people read where the repository is shown.
func documents(t *testing.T) []string {
	t.Helper()
	found := []string{"../README.md"}
	for _, pattern := range []string{"../docs/*.md", "../examples/*/*.md", "../test/*/*.md", "../spec/*.md"} {
		more, err := filepath.Glob(pattern)
		require.NoError(t, err)
		found = append(found, more...)
	}
	return found
}

func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	checked := 0
	for _, document := range documents(t) {
		for _, target := range linksIn(t, document) {
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			file, anchor, _ := strings.Cut(target, "#")
			path := document
			if file != "" {
				path = filepath.Join(filepath.Dir(document), file)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s, which is not there", document, target)
				continue
			}
			if anchor != "" && !anchors(t, path)[anchor] {
				t.Errorf("%s links to %s, but %s has no such heading", document, target, path)
			}
		}
	}
	require.Greater(t, checked, 5, "links are not found any more")
}

// linksIn are the targets of a document's links, those in examples of code left out.
func linksIn(t *testing.T, document string) (targets []string) {
	t.Helper()
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	for _, found := range link.FindAllStringSubmatch(inCode.ReplaceAllString(fenced.ReplaceAllString(string(text), ""), "code"), -1) {
		targets = append(targets, found[1])
	}
	return targets
}

// anchors are the names that GitHub gives the headings of a document.
func anchors(t *testing.T, document string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	names := map[string]bool{}
	for _, found := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
		names[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-")] = true
	}
	return names
}

func TestHeadingsHaveTheNamesThatGitHubGivesThem(t *testing.T) {
	document := filepath.Join(t.TempDir(), "a.md")
	require.NoError(t, os.WriteFile(document, []byte("# One request, step by step\n```sh\n# no heading\n```\n## `run` and *more*  \n[x](b.md) `[y](c.md)`\n"), 0o600))
	require.Equal(t, map[string]bool{"one-request-step-by-step": true, "run-and-more": true}, anchors(t, document))
	require.Equal(t, []string{"b.md"}, linksIn(t, document))
}
