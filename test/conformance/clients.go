package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

// client is an AWS client to run the steps with.
type client struct {
	slug     string // for names of images
	name     string
	origin   string // the registry it comes from
	services []string
	// install makes it ready to start, and says which program to start and the client's version.
	install func(ctx context.Context, repository string) (program []string, version string, err error)
}

func (c *client) has(service string) bool { return slices.Contains(c.services, service) }

// clients are all there are, in the order in which they run and are shown.
var clients = []*client{
	{"cli", "AWS CLI", "PyPI", []string{microvms, lambdaCore}, python("awscli")},
	{"boto3", "boto3", "PyPI", []string{microvms, lambdaCore}, python("boto3")},
	{"js", "AWS SDK for JavaScript", "npm", []string{microvms}, javaScript}, // npm has no client of lambda-core
	{"rust", "AWS SDK for Rust", "crates.io", []string{microvms, lambdaCore}, rust},
}

// python installs the clients for Python; package says which one is meant, and is the name of its driver's folder.
func python(pkg string) func(context.Context, string) ([]string, string, error) {
	return func(ctx context.Context, repository string) ([]string, string, error) {
		folder, err := output(ctx, repository, filepath.Join(repository, "setup", "clients", "python.sh"))
		if err != nil {
			return nil, "", err
		}
		interpreter := filepath.Join(folder, "bin", "python")
		version, err := output(ctx, repository, interpreter, "-c", "import importlib.metadata as m; print(m.version('"+pkg+"'))")
		return []string{interpreter, "-B", filepath.Join(repository, "test", "conformance", pkg, "driver.py")}, version, err
	}
}

// javaScript installs the same client that the end-to-end tests use.
func javaScript(ctx context.Context, repository string) ([]string, string, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, "", errors.New("no Node")
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return nil, "", errors.New("no npm")
	}
	folder, err := sdk.Install(ctx)
	if err != nil {
		return nil, "", err
	}
	version, err := output(ctx, folder, node, "-p", "require('@aws-sdk/client-lambda-microvms/package.json').version")
	return []string{node, filepath.Join(folder, "driver.mjs")}, version, err
}

// rust builds the program in test/conformance/rust, in a folder of the cache.
func rust(ctx context.Context, repository string) ([]string, string, error) {
	cargo, err := exec.LookPath("cargo")
	if err != nil {
		return nil, "", errors.New("no Cargo")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, "", fmt.Errorf("find a cache folder: %w", err)
	}
	source, target := filepath.Join(repository, "test", "conformance", "rust"), filepath.Join(cache, "dormouse", "clients", "rust")
	if _, err := output(ctx, source, cargo, "build", "--quiet", "--locked", "--target-dir", target); err != nil {
		return nil, "", err
	}
	version, err := output(ctx, source, cargo, "pkgid", "aws-sdk-lambdamicrovms")
	_, version, _ = strings.Cut(version, "#")
	return []string{filepath.Join(target, "debug", "conformance-driver")}, strings.TrimPrefix(version, "aws-sdk-lambdamicrovms@"), err
}

// output is what a command prints; when it fails, the error is what it says last.
func output(ctx context.Context, folder, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = folder
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(program), err, lines[len(lines)-1])
	}
	return strings.TrimSpace(string(out)), nil
}
