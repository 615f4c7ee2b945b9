// Package internal checks what all packages of the module have in common.
package internal

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// drawers are package names that say nothing about what is inside.
var drawers = map[string]bool{"util": true, "utils": true, "common": true, "helpers": true, "types": true, "models": true}

func TestEveryPackageSaysInOneSentenceWhatItIs(t *testing.T) {
	for dir, files := range packages(t) {
		name, comments := "", []string{}
		for _, file := range files {
			name = file.Name.Name
			if file.Doc != nil {
				comments = append(comments, file.Doc.Text())
			}
		}
		if len(comments) != 1 {
			t.Errorf("%s: %d files have a package comment instead of one", dir, len(comments))
			continue
		}
		checkSentence(t, dir, name, strings.Join(strings.Fields(comments[0]), " "))
	}
}

func checkSentence(t *testing.T, dir, name, comment string) {
	start := "Package " + name + " "
	if name == "main" {
		start = "Command " + filepath.Base(dir) + " "
	}
	if !strings.HasPrefix(comment, start) {
		t.Errorf("%s: its comment does not start with %q", dir, start)
	}
	if sentence := new(doc.Package).Synopsis(comment); sentence != comment || !strings.HasSuffix(comment, ".") {
		t.Errorf("%s: its comment is not one sentence: %q", dir, comment)
	}
}

func TestNoPackageIsADrawer(t *testing.T) {
	for dir, files := range packages(t) {
		for _, file := range files {
			if drawers[file.Name.Name] {
				t.Errorf("%s: package %s is not named after what it owns", dir, file.Name.Name)
			}
		}
	}
}

// packages parses the package clauses and comments of the module, by folder; tests are left out.
func packages(t *testing.T) map[string][]*ast.File {
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	found := map[string][]*ast.File{}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		found[dir] = append(found[dir], file)
		return err
	})
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found
}
