package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/guest/initramfs"
)

// initramfsRecipe packs the agent and its kernel modules, once more with those of guests with all
// capabilities: modules cost memory, boot time and room in snapshots that other guests need not pay. It
// does so every time: that takes less than finding out whether any of its sources changed.
func initramfsRecipe(w *workshop) recipe {
	var plain, all bytes.Buffer
	return recipe{
		asset: assets.InitramfsAsset,
		inputs: func(context.Context) (map[string]string, error) {
			if err := packInitramfs(w, &plain, initramfs.Guest); err != nil {
				return nil, err
			}
			if err := packInitramfs(w, &all, slices.Concat(initramfs.Guest, initramfs.Nested)); err != nil {
				return nil, err
			}
			return map[string]string{"archive": digestOfBuffer(&plain), "archive with all modules": digestOfBuffer(&all)}, nil
		},
		make: func(_ context.Context, dir string, _ *assets.Manifest) error {
			if err := writeFile(filepath.Join(dir, assets.InitramfsImage), 0o644, &plain); err != nil {
				return err
			}
			return writeFile(filepath.Join(dir, assets.InitramfsAllImage), 0o644, &all)
		},
		fix: "Remove " + filepath.Join(w.dir, assets.KernelAsset),
	}
}

func digestOfBuffer(b *bytes.Buffer) string {
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:])
}

func packInitramfs(w *workshop, packed *bytes.Buffer, wanted []string) error {
	agent, err := os.ReadFile(filepath.Join(w.dir, assets.AgentAsset, assets.AgentBinary))
	if err != nil {
		return fmt.Errorf("read the agent: %w", err)
	}
	tree := os.DirFS(filepath.Join(w.dir, assets.KernelAsset, assets.KernelModules))
	modules, err := initramfs.LoadOrder(tree, wanted)
	if err != nil {
		return err
	}
	return initramfs.Write(packed, agent, modules)
}
