package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/internal/assets"
)

const goFix = "Check that Go can fetch modules (GOPROXY, network)"

// goProgram is a program built from this module or from one of its tools.
type goProgram struct {
	pkg     string // import path
	cgo     string // CGO_ENABLED
	tags    string
	ldflags string
}

var (
	agentProgram = goProgram{pkg: "github.com/dormouse-dev/dormouse/cmd/dormouse-guest", cgo: "0", ldflags: "-s -w"}
	buildkitd    = goProgram{pkg: "github.com/moby/buildkit/cmd/buildkitd", cgo: "0", ldflags: "-s -w"}
	// runc joins namespaces in C before Go's runtime starts, hence cgo.
	runc = goProgram{
		pkg:  "github.com/opencontainers/runc",
		cgo:  "1",
		tags: "seccomp netgo osusergo",
		// static, because the builder may have another libc than the host
		ldflags: "-s -w -extldflags -static",
	}
)

// build builds the program into the file out. No version control stamp goes into it: the
// binary, and so the digest that snapshots are bound to, must not change with every commit.
func (p goProgram) build(ctx context.Context, w *workshop, out string) error {
	return w.run(p.command(ctx, w, "build", "-o", out, p.pkg))
}

// command is `go <verb>` with the program's settings and further arguments.
func (p goProgram) command(ctx context.Context, w *workshop, verb string, args ...string) *exec.Cmd {
	flags := []string{verb, "-trimpath", "-buildvcs=false", "-tags", p.tags, "-ldflags", p.ldflags}
	cmd := w.command(ctx, "go", append(flags, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+p.cgo)
	return cmd
}

// inputs are the versions of Go and of every module that the program is made of, and its flags.
func (p goProgram) inputs(ctx context.Context, w *workshop) (map[string]string, error) {
	inputs, err := recipeInputs("binaries.go")
	if err != nil {
		return nil, err
	}
	modules, err := w.output(p.command(ctx, w, "list", "-deps",
		"-f", "{{with .Module}}{{.Path}} {{.Version}} {{with .Replace}}{{.Path}} {{.Version}}{{end}}{{end}}", p.pkg))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(modules))
	inputs["modules"] = hex.EncodeToString(sum[:])
	inputs["go"], err = w.output(w.command(ctx, "go", "env", "GOVERSION"))
	return inputs, err
}

// agentRecipe builds the guest agent every time, because Go's build cache knows best whether its
// sources changed; only a different binary replaces the present one.
func agentRecipe(w *workshop) recipe {
	built := filepath.Join(w.scratch, assets.AgentBinary)
	return recipe{
		asset: assets.AgentAsset,
		inputs: func(ctx context.Context) (map[string]string, error) {
			if err := agentProgram.build(ctx, w, built); err != nil {
				return nil, err
			}
			data, err := os.ReadFile(built)
			if err != nil {
				return nil, err
			}
			sum := sha256.Sum256(data)
			return map[string]string{"binary": hex.EncodeToString(sum[:])}, nil
		},
		make: func(_ context.Context, dir string, _ *assets.Manifest) error {
			return os.Rename(built, filepath.Join(dir, assets.AgentBinary))
		},
		fix: goFix,
	}
}

func buildkitdRecipe(w *workshop) recipe {
	return toolRecipe(w, assets.BuildkitdAsset, assets.Buildkitd, buildkitd, goFix)
}

func runcRecipe(w *workshop) recipe {
	return toolRecipe(w, assets.RuncAsset, assets.Runc, runc, goFix+" and that gcc and libseccomp-dev are installed")
}

func toolRecipe(w *workshop, asset, file string, program goProgram, fix string) recipe {
	return recipe{
		asset:  asset,
		inputs: func(ctx context.Context) (map[string]string, error) { return program.inputs(ctx, w) },
		make: func(ctx context.Context, dir string, _ *assets.Manifest) error {
			return program.build(ctx, w, filepath.Join(dir, file))
		},
		fix: fix,
	}
}
