package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/assets"
)

// recipe is how one asset is made.
type recipe struct {
	asset string // name of its folder
	// inputs is all that the result depends on; it is asked every time and must be quick.
	inputs func(ctx context.Context) (map[string]string, error)
	// make fills an empty folder. It may set the manifest's Version and Boot.
	make func(ctx context.Context, dir string, m *assets.Manifest) error
	// fix is what the user can do when make fails.
	fix string
}

// Prefix of the folders in which assets are made. What a killed run left under it is removed by the next one.
const scratchPrefix = ".making-"

// workshop is the asset folder while set-up works in it.
type workshop struct {
	dir     string
	scratch string // on the same file system; removed at the end
	lock    *os.File
	log     *os.File // what the programs print that set-up runs
	archive archive
}

// openWorkshop waits until no other set-up works in the folder.
func openWorkshop(dir string) (*workshop, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the asset folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the asset folder: %w", err)
	}
	w := &workshop{dir: dir, lock: lock}
	if err := w.prepare(); err != nil {
		w.close()
		return nil, fmt.Errorf("prepare the asset folder: %w", err)
	}
	return w, nil
}

func (w *workshop) prepare() error {
	if err := unix.Flock(int(w.lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	leftovers, err := filepath.Glob(filepath.Join(w.dir, scratchPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range leftovers {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if w.log, err = os.Create(filepath.Join(w.dir, "setup.log")); err != nil {
		return err
	}
	if w.scratch, err = os.MkdirTemp(w.dir, scratchPrefix); err != nil {
		return err
	}
	w.archive = archive{workshop: w, dir: filepath.Join(w.scratch, "apt")}
	return nil
}

func (w *workshop) close() {
	if w.scratch != "" {
		os.RemoveAll(w.scratch)
	}
	if w.log != nil {
		w.log.Close()
	}
	w.lock.Close() // drops the lock
}

// bring makes an asset unless it is there, complete and made from the same inputs. It tells
// whether it did. The asset appears at once or not at all.
func (w *workshop) bring(ctx context.Context, r recipe) (bool, error) {
	inputs, err := r.inputs(ctx)
	if err != nil {
		return false, w.explain(ctx, r, err)
	}
	place := filepath.Join(w.dir, r.asset)
	if m, err := assets.ReadManifest(place); err == nil && m.SameInputs(inputs) && m.CheckSizes() == nil {
		return false, nil
	}
	made := filepath.Join(w.scratch, r.asset)
	if err := os.MkdirAll(made, 0o755); err != nil {
		return true, w.explain(ctx, r, err)
	}
	m := &assets.Manifest{Asset: r.asset, Inputs: inputs}
	if err := r.make(ctx, made, m); err != nil {
		return true, w.explain(ctx, r, err)
	}
	if err := m.Seal(made); err != nil {
		return true, w.explain(ctx, r, err)
	}
	if err := putInPlace(made, place); err != nil {
		return true, w.explain(ctx, r, err)
	}
	return true, nil
}

// explain makes the one line that the user sees.
func (w *workshop) explain(ctx context.Context, r recipe, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: interrupted; run `make setup` again", r.asset)
	}
	return fmt.Errorf("%s: %w. %s, then run `make setup` again (log: %s)", r.asset, err, r.fix, w.log.Name())
}

// putInPlace renames a finished folder to its place, in exchange for what was there.
func putInPlace(made, place string) error {
	parent, err := os.Open(filepath.Dir(place))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := unix.Syncfs(int(parent.Fd())); err != nil {
		return fmt.Errorf("write out %s: %w", made, err)
	}
	err = unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, place, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) { // nothing was there
		err = os.Rename(made, place)
	}
	if err != nil {
		return fmt.Errorf("move %s to its place: %w", place, err)
	}
	return parent.Sync()
}

//go:embed *.go *.sh *.toml
var sources embed.FS

// recipeInputs are the inputs of every asset: the machine's architecture, and the source files of its recipe.
func recipeInputs(files ...string) (map[string]string, error) {
	hash := sha256.New()
	for _, file := range files {
		data, err := fs.ReadFile(sources, file)
		if err != nil {
			return nil, err
		}
		hash.Write(data)
	}
	return map[string]string{
		"architecture": runtime.GOARCH,
		"recipe":       strings.Join(files, " ") + " " + hex.EncodeToString(hash.Sum(nil)),
	}, nil
}

// digestOf is the recorded digest of a file of an asset that was made before.
func (w *workshop) digestOf(asset, file string) (assets.File, error) {
	m, err := assets.ReadManifest(filepath.Join(w.dir, asset))
	if err != nil {
		return assets.File{}, err
	}
	return m.File(file)
}
