package awsapitest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// RequireTest checks that package.TestName is there, in a sibling of the package under test or in itself.
func RequireTest(t testing.TB, test string) {
	t.Helper()
	pkg, name, _ := strings.Cut(test, ".")
	files, err := filepath.Glob("../" + pkg + "/*_test.go")
	require.NoError(t, err)
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, declared := range file.Decls {
			if f, ok := declared.(*ast.FuncDecl); ok && f.Name.Name == name {
				return
			}
		}
	}
	require.Fail(t, "no such test", test)
}
