package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/guest/initramfs"
)

// initramfsRecipe packs the agent and its kernel modules. It does so every time: that takes
// less than finding out whether any of its sources changed.
func initramfsRecipe(w *workshop) recipe {
	var packed bytes.Buffer
	return recipe{
		asset: assets.InitramfsAsset,
		inputs: func(context.Context) (map[string]string, error) {
			if err := packInitramfs(w, &packed); err != nil {
				return nil, err
			}
			sum := sha256.Sum256(packed.Bytes())
			return map[string]string{"archive": hex.EncodeToString(sum[:])}, nil
		},
		make: func(_ context.Context, dir string, _ *assets.Manifest) error {
			return writeFile(filepath.Join(dir, assets.InitramfsImage), 0o644, &packed)
		},
		fix: "Remove " + filepath.Join(w.dir, assets.KernelAsset),
	}
}

func packInitramfs(w *workshop, packed *bytes.Buffer) error {
	agent, err := os.ReadFile(filepath.Join(w.dir, assets.AgentAsset, assets.AgentBinary))
	if err != nil {
		return fmt.Errorf("read the agent: %w", err)
	}
	tree := os.DirFS(filepath.Join(w.dir, assets.KernelAsset, assets.KernelModules))
	modules, err := initramfs.LoadOrder(tree, initramfs.Guest)
	if err != nil {
		return err
	}
	return initramfs.Write(packed, agent, modules)
}
