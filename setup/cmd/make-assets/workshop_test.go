package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/assets"
)

// testRecipe makes an asset of one file and counts how often.
func testRecipe(asset, input string, made *int, failure error) recipe {
	return recipe{
		asset:  asset,
		inputs: func(context.Context) (map[string]string, error) { return map[string]string{"input": input}, nil },
		make: func(_ context.Context, dir string, _ *assets.Manifest) error {
			*made++
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte(input), 0o644); err != nil {
				return err
			}
			return failure
		},
		fix: "Check the network",
	}
}

func bring(t *testing.T, dir string, r recipe) error {
	t.Helper()
	w, err := openWorkshop(dir)
	require.NoError(t, err)
	defer w.close()
	_, err = w.bring(t.Context(), r)
	return err
}

func TestAnAssetIsMadeAgainOnlyWhenItsInputsChangeOrItIsDamaged(t *testing.T) {
	dir, made := t.TempDir(), 0
	path := filepath.Join(dir, "thing", "file")
	require.NoError(t, bring(t, dir, testRecipe("thing", "one", &made, nil)))
	require.NoError(t, bring(t, dir, testRecipe("thing", "one", &made, nil)))
	require.Equal(t, 1, made)

	require.NoError(t, bring(t, dir, testRecipe("thing", "two", &made, nil)))
	require.Equal(t, 2, made)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "two", string(content))

	require.NoError(t, os.Truncate(path, 1))
	require.NoError(t, bring(t, dir, testRecipe("thing", "two", &made, nil)))
	require.Equal(t, 3, made)
}

func TestAFailedRecipeKeepsTheOldAssetAndLeavesNothingBehind(t *testing.T) {
	dir, made := t.TempDir(), 0
	require.NoError(t, bring(t, dir, testRecipe("thing", "one", &made, nil)))
	err := bring(t, dir, testRecipe("thing", "two", &made, errors.New("no route to host")))
	require.ErrorContains(t, err, "thing: no route to host. Check the network, then run `make setup` again")

	m, err := assets.ReadManifest(filepath.Join(dir, "thing"))
	require.NoError(t, err)
	require.NoError(t, m.CheckDigests())
	require.True(t, m.SameInputs(map[string]string{"input": "one"}))
	left, err := filepath.Glob(filepath.Join(dir, scratchPrefix+"*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestWhatAKilledSetUpLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	leftover := filepath.Join(dir, scratchPrefix+"1", "kernel")
	require.NoError(t, os.MkdirAll(leftover, 0o755))
	w, err := openWorkshop(dir)
	require.NoError(t, err)
	w.close()
	require.NoDirExists(t, leftover)
}

func TestProgressIsOneLinePerStep(t *testing.T) {
	for outcome, c := range map[string]struct {
		worked  bool
		failure error
	}{
		"[3/9] kernel … done 0s\n":       {worked: true},
		"[3/9] kernel … up to date 0s\n": {},
		"[3/9] kernel … failed 0s\n":     {worked: true, failure: errors.New("broken")},
	} {
		var out bytes.Buffer
		err := progress{number: 3, of: 9, out: &out}.report("kernel", func() (bool, error) { return c.worked, c.failure })
		require.Equal(t, c.failure, err)
		require.Equal(t, outcome, out.String())
	}
}

func TestAFailureQuotesTheLineThatSaysWhy(t *testing.T) {
	for printed, want := range map[string]string{
		"":                      "",
		"one\ntwo\n":            ": two",
		"a\nE: bad\nE: worse\n": ": bad",
		"I: x\nE: Could not resolve 'mirror'\nI: removing tempdir\n": ": Could not resolve 'mirror'",
	} {
		require.Equal(t, want, quoteError(printed))
	}
}
