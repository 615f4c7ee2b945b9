package endpoint

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// answersInCode reads every answer{…} of answer.go, as "status code body".
func answersInCode(t *testing.T) []string {
	file, err := parser.ParseFile(token.NewFileSet(), "answer.go", nil, 0)
	require.NoError(t, err)
	statuses := map[string]int{
		"StatusBadRequest": 400, "StatusForbidden": 403, "StatusTooManyRequests": 429, "StatusInternalServerError": 500,
		"StatusNotImplemented": 501, "StatusBadGateway": 502, "StatusServiceUnavailable": 503, "StatusGatewayTimeout": 504,
	}
	var found []string
	ast.Inspect(file, func(node ast.Node) bool {
		literal, ok := node.(*ast.CompositeLit)
		if !ok || literal.Type == nil || fmt.Sprint(literal.Type) != "answer" {
			return true
		}
		require.Len(t, literal.Elts, 3)
		status, known := statuses[literal.Elts[0].(*ast.SelectorExpr).Sel.Name]
		require.True(t, known, "add the status to this test")
		code, err := strconv.Unquote(literal.Elts[1].(*ast.BasicLit).Value)
		require.NoError(t, err)
		body, err := strconv.Unquote(literal.Elts[2].(*ast.BasicLit).Value)
		require.NoError(t, err)
		found = append(found, fmt.Sprintf("%d %s %q", status, code, body))
		return true
	})
	require.NotEmpty(t, found)
	return found
}

func TestDocumentedAnswersAreThoseOfTheCode(t *testing.T) {
	text, err := os.ReadFile("../../docs/endpoint.md")
	require.NoError(t, err)
	var documented []string
	row := regexp.MustCompile("(?m)^\\| ([0-9]{3}) \\| `([A-Z0-9_]+)` \\|(?: (.+?))? \\| [^|]+ \\|$")
	for _, match := range row.FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, fmt.Sprintf("%s %s %q", match[1], match[2], match[3]))
	}
	require.ElementsMatch(t, answersInCode(t), documented)
}
