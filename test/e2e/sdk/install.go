package sdk

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// files is the Node program. The lock file holds the exact version and digest of every package.
//
//go:embed package.json package-lock.json driver.mjs
var files embed.FS

// Install puts the Node program and its packages into a folder of the user's cache, named after
// what is in it, and returns the folder. When it is there already, that takes no time.
func Install(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder: %w", err)
	}
	name, err := digest()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "dormouse", "clients", "js-"+name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("make a cache folder: %w", err)
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), "installing-")
	if err != nil {
		return "", fmt.Errorf("make a cache folder: %w", err)
	}
	defer os.RemoveAll(temporary)
	if err := os.CopyFS(temporary, files); err != nil {
		return "", fmt.Errorf("write the Node program: %w", err)
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = temporary
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install the AWS SDK for JavaScript with npm (needs Node 20 or newer, and the npm registry once): %w\n%s", err, out)
	}
	// Another test may have been faster.
	if err := os.Rename(temporary, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("keep the installed SDK: %w", err)
	}
	return dir, nil
}

func digest() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := files.ReadFile(path)
		sum.Write(text)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:8]), err
}
