package config

import (
	"errors"
	"regexp"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

var (
	errNotYAML   = errors.New("it is not YAML that can be read")
	errDocuments = errors.New("it holds more than one YAML document; only one would be read")
)

// readTree parses a file; nil: there is nothing in it.
func readTree(text []byte) (root ast.Node, err error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, wording(err)
	}
	for _, document := range file.Docs {
		if document.Body == nil {
			continue
		}
		if root != nil {
			return nil, errDocuments
		}
		root = document.Body
	}
	if root != nil {
		ast.Walk(literally{}, root)
	}
	return root, nil
}

// literally makes numbers the texts they were written as. The configuration has no numbers, and YAML would
// make 83 of an external id 0123.
type literally struct{}

// Visit implements ast.Visitor.
func (literally) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.MappingValueNode:
		n.Value = asText(n.Value)
	case *ast.SequenceNode:
		for i := range n.Values {
			n.Values[i] = asText(n.Values[i])
		}
	case *ast.AnchorNode:
		n.Value = asText(n.Value)
	}
	return literally{}
}

func asText(n ast.Node) ast.Node {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return ast.String(n.GetToken())
	}
	return n
}

var (
	quoted = regexp.MustCompile(`"[^\n]*"`)
	typo   = regexp.MustCompile(`^\[[0-9:]+\] (unknown field|mapping key) "[A-Za-z]{1,32}"[^"]*$`)
)

// wording is what the parser found wrong and where, without what it quotes of the file but for a member's name.
func wording(err error) error {
	text := yaml.FormatError(err, false, false)
	if !typo.MatchString(text) {
		text = quoted.ReplaceAllString(text, "…")
	}
	return errors.New(text)
}
