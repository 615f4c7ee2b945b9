// Package config is the daemon's configuration file: what is too structured for a flag.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/goccy/go-yaml"
)

// DefaultName is the file in the data folder that is read unless --config names another.
const DefaultName = "dormouse.yaml"

// maxSize bounds the file, in bytes.
const maxSize = 1 << 20

// File is the whole configuration. Unknown members are refused, so that a typo is not a silent gap.
type File struct {
	Networks []Network `yaml:"networks"`
	Roles    []Role    `yaml:"roles"`
}

// Load reads the file at path. One that is not there is empty, unless it is required.
func Load(path string, required bool) (File, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !required {
		return File{}, nil
	}
	if err != nil {
		return File{}, fmt.Errorf("open the configuration: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return File{}, fmt.Errorf("read the configuration: %w", err)
	}
	if len(text) > maxSize {
		return File{}, fmt.Errorf("the configuration %s is larger than %d bytes", path, maxSize)
	}
	parsed, err := Parse(text)
	if err != nil {
		return File{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return parsed, nil
}

// Parse reads a configuration and checks it. Errors name the line, and quote none: it may hold secrets.
func Parse(text []byte) (File, error) {
	var file File
	decoder := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return File{}, errors.New(yaml.FormatError(err, false, false))
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return File{}, errors.New("it holds a second document (after a line ---), which nothing would be read of")
	}
	for _, check := range []func() error{file.checkNetworks, file.checkRoles} {
		if err := check(); err != nil {
			return File{}, located(text, err)
		}
	}
	return file, nil
}
