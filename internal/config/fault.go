package config

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
)

// fault is what is wrong with one member of a file that can be read.
type fault struct {
	path string // for example networks[0].allow[1].ports[0]
	err  error
}

func (f *fault) Error() string { return f.path + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

func faultf(path, format string, args ...any) error {
	return &fault{path, fmt.Errorf(format, args...)}
}

// located adds the line of a fault, or of what it is missing in, where it can be told.
func located(text []byte, err error) error {
	var f *fault
	if !errors.As(err, &f) {
		return err
	}
	file, parseErr := parser.ParseBytes(text, 0)
	if parseErr != nil {
		return err
	}
	for path := f.path; path != ""; path = parent(path) {
		at, pathErr := yaml.PathString("$." + path)
		if pathErr != nil {
			return err
		}
		if node, nodeErr := at.FilterFile(file); nodeErr == nil && node != nil && node.GetToken() != nil {
			return fmt.Errorf("line %d: %w", node.GetToken().Position.Line, err)
		}
	}
	return err
}

// parent is the path without its last member or index.
func parent(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '.' || path[i] == '[' {
			return path[:i]
		}
	}
	return ""
}
